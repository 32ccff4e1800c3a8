"""`python -m automl.cli`: the command, for a process that has no script's path to call."""

from __future__ import annotations

import sys

from .app import main

sys.exit(main())
