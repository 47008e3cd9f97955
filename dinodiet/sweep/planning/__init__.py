"""What a grid would need, and having it there ahead of time."""
