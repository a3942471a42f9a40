"""The recurrent engine: C++ behind a plain C interface, and the only room of the package that knows it."""

from __future__ import annotations
