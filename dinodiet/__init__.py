"""dinodiet: does self-supervised training on these pictures make a backbone's features better?"""

__version__ = "0.1.0"
