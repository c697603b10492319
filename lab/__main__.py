# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m lab``."""

from lab.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
