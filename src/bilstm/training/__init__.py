"""How a network is trained: options, the loop, what is kept of it, and who is told. No tables here."""
