"""What learns: networks, losses, synthetic data and training."""
