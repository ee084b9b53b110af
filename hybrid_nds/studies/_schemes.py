"""Schemes that every backend has, by the name it has there."""

EULER = {"diffrax": "Euler", "julia": "EM"}
"""Euler and Maruyama's."""
