"""The environments of the peers, which `make taggers` sets up."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "build" / "taggers"


def python_of(environment: str) -> str:
    """The interpreter of one of the environments in requirements/, or this one if it is not set up."""
    python = FOLDER / environment / "bin" / "python"
    return str(python) if python.exists() else sys.executable
