"""Stability of deterministic and stochastic dynamical systems."""
