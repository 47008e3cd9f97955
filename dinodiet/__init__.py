"""dinodiet: does self-supervised training on these images make a backbone's features better?"""

__version__ = "0.1.0"
