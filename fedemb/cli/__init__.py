"""The fedemb command: the only package that knows Hydra."""
