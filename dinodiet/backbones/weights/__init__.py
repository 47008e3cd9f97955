"""Where weights lie, and how they get into a network."""
