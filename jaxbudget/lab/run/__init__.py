"""One run: its identity, its parts, its training, its files."""
