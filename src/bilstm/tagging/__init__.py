"""A tagger of tables: trained, evaluated, and its predictions written, for any number of rows."""
