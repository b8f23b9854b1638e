"""Local work on one virtual client."""
