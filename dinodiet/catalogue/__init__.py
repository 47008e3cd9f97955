"""All models, datasets, methods and evaluators of the configuration folders: `python -m dinodiet.catalogue`."""
