"""When a score was measured. Imports nothing."""

PHASES = ("initial", "final", "change")  # before and after the training, and the difference
