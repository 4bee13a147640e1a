"""What trains and measures: the trainer and its tasks, latent encoding, evaluation."""
