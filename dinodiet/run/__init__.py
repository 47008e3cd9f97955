"""One run: its parts, its modes, and what happens between the steps."""
