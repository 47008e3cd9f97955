"""Where datasets come from, one module a family."""
