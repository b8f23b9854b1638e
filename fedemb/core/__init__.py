"""Types, arithmetic, randomness and checks: torch, numpy and the standard library only."""
