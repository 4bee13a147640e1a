"""Measurements of speed and memory, one module a benchmark: `python -m jobs.benchmark NAME …`."""
