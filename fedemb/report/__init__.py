"""A run folder as numbers, tables and a page."""
