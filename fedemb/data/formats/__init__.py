"""Readers of published file formats: bytes in, numpy arrays out.

Most know no data set. cifar100, tff_cache and writers_* are about one: each brings the forms that it was published in
to one form, for its preparer in data_prep.
"""
