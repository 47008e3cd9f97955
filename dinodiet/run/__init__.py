"""One run: build its parts, score, train, score, write results; its modes, and what happens between the steps."""
