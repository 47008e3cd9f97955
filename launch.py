"""The command of a checkout: `python launch.py ...` is what `dinodiet ...` is once the package is installed."""

import sys

from dinodiet.sweep.command import cli

if __name__ == "__main__":
    sys.exit(cli())
