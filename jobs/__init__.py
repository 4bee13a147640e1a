"""Entry points, one a file: `python -m jobs.NAME --help`. Thin: parse, connect, call, report."""
