"""Images, splits and datasets, their loader, and the preprocessing of evaluations."""
