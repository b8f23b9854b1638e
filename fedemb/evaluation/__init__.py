"""Measures of a finished embedding."""
