"""The streaming application on Ray Serve (design §6): ingress, model deployments, and clients."""
