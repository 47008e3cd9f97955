"""Decoded pixels of image files, kept on disk and mapped into memory."""
