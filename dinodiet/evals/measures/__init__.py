"""Measures of embeddings as numbers: functions of a float64 matrix, one page a kind."""
