"""Boxes and attributes: read, check, compare, draw, export. Needs no TensorFlow."""
