# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Kubernetes with real NFS machines on one Linux host.

The package needs the standard library alone: it runs before anything is installed.
``lab/README.md`` tells its shape; ``python3 -m lab --help`` its commands.
"""
