"""Geometry: compression codecs, simplification and its measurement."""
