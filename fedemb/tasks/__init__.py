"""Learning problems: parameters, which of them are shared, and the loss."""
