"""The streaming application on Ray Serve: ingress, model deployments, and clients."""
