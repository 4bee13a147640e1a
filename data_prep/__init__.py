"""Data preparation: from raw footage of people talking to the `clips` table (Ray Data, Lance)."""
