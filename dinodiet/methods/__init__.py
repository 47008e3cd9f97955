"""Self-supervised methods, one page each, composed of `parts/`; `base.py` has what they share."""
