"""Raw archives to stores, one file per data set."""
