"""The streaming application on Ray Serve (design §6): ingress, deployments, sessions, and the browser's and
Python's client.
"""
