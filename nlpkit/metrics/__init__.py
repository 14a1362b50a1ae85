"""Measures of quality, in numpy: classification and ranking."""
