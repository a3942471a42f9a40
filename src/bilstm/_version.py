"""The package's version, written here only: the build and the program both read it."""

from __future__ import annotations

__version__ = "0.1.0"
