"""The training loop, its optimiser, and the state that resumes it. It names no method and no dataset."""
