"""Methods, one page each."""
