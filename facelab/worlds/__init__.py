"""Procedural data in which everything is known: faces, digits, shapes."""
