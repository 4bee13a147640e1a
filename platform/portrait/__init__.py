"""Live talking portraits: the model, its media and its tables, without Ray."""

__version__ = "0.1.0"
