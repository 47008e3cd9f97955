"""All models of the configuration folders, in every size: `python -m dinodiet.catalogue`."""
