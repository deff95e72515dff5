"""The paper: its cells, deviations and printed numbers, and what it adds to a report."""
