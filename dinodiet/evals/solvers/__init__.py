"""Solvers that evaluators share."""
