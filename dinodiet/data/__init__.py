"""Images, splits and datasets."""
