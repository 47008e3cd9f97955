"""All models, datasets, methods and evaluators of the configuration folders: `python -m dinodiet.catalogue`."""

import sys

from dinodiet.io.leaving import leave_on_signals

if sys.argv[:1] == ["-m"]:  # Python is looking for the command, whose imports take seconds
    leave_on_signals()
