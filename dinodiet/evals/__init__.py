"""Evaluators, one page each, and the scorer that applies them to an encoder."""
