"""The libraries measured: one module each, imported only in that library's own process."""
