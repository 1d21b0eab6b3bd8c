"""``python -m ecgcore`` is the ``ecgcore`` command."""

from __future__ import annotations

import sys

from ecgcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
