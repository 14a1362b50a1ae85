"""Layers and networks with no opinion: they know no task."""
