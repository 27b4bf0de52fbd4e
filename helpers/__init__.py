"""Thin modules behind the two notebooks, one idea each; see the table in the README."""
