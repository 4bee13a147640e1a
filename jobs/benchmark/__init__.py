"""Measurements of speed and memory, one module per benchmark: `python -m jobs.benchmark NAME …`."""
