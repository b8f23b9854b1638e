"""The Hydra configuration that ships with fedemb."""
