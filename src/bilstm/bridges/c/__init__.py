"""To C: a model as source code that any C++ compiler builds, without Python and without a library."""

from bilstm.bridges.c.writing import export

__all__ = ["export"]
