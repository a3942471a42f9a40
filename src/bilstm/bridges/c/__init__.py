"""To C: a model as source code that any C++ compiler builds, without Python and without a library."""

from bilstm.bridges.c.writing import check_folder, export, identifier

__all__ = ["check_folder", "export", "identifier"]
