"""fedemb: image embeddings trained with user-level differential privacy."""
