"""DP-FedEmb as a Flower app."""
