"""Plots and the HTML report of a run: reads files, imports no model."""
