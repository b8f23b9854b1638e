"""Readers of published file formats: bytes in, numpy arrays out; they know no data set."""
