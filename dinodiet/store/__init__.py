"""What lies on disk and what it means: run directories, grids, states, the queue. Imports no torch."""
