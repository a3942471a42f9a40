"""From files to tables, features and labels, and back. No network here."""
