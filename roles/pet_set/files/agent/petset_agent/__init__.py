# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent beside each mysqld: one Lease, one writer."""
