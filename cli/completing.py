"""What the shell completes options with."""

from __future__ import annotations

import os
from pathlib import Path


def study_names(incomplete: str) -> list[str]:
    root = Path(os.environ.get("AUTOML_RUNS", "runs"))
    names = sorted(p.parent.name for p in root.glob("*/journal.db"))
    return [n for n in names if n.startswith(incomplete)]


def space_names(incomplete: str) -> list[str]:
    from automl.space.files import shipped  # reads the spaces: only when the shell asks

    return [n for n in shipped() if n.startswith(incomplete)]


def strategy_names(incomplete: str) -> list[str]:
    from automl.search.strategy import strategies  # as above

    return [n for n in strategies() if n.startswith(incomplete)]
