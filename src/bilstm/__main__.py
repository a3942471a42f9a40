"""`python -m bilstm` is the command line."""

from __future__ import annotations

from bilstm.cli import main

main()
