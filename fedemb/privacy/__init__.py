"""Sensitivity, noise, the ledger and the certified epsilon."""
