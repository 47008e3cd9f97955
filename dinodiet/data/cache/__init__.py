"""Decoded pixels, kept on disk."""
