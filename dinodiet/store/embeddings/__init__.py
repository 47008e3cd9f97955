"""Embeddings on disk, in files that other programs read. Imports no torch."""
