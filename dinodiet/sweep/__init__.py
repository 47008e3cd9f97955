"""Grids of runs: what they consist of, who works on them, and how they end. Imports no torch."""
