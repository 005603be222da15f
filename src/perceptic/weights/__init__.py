"""Names and files <-> state dicts: find, check, read, convert, write."""
