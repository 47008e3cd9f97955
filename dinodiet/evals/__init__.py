"""Evaluators, one page each, and what scores an encoder with them."""
