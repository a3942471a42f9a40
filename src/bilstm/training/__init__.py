"""How a network is trained: options, the loop, checkpoints and logs. No tables here."""
