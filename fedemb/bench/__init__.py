"""How fast rounds are: fedemb's executors, other simulators and a plain loop at the same work, in turn."""
