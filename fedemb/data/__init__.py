"""Users and their images: reading, sampling, batching."""
