"""The round, the server's optimizer, the training loop and its checkpoints."""
