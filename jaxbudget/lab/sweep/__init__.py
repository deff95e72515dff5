"""Grids of runs: planned, trained, watched."""
