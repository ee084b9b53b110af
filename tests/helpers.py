"""What several test modules share: comparison of pytrees, orders, entry points."""

import importlib.metadata

import jax.tree_util as jtu
import numpy as np


class EntryPoint(importlib.metadata.EntryPoint):
    """An entry point that a package which is not installed would have."""

    def __init__(self, name, value):
        super().__init__(name, __name__, "")
        vars(self)["load"] = lambda: value


def tree_allclose(a, b, *, rtol, atol=0.0):
    """Whether two pytrees have one structure, the same shapes and dtypes, and values
    within `atol + rtol * |b|` of each other."""
    if jtu.tree_structure(a) != jtu.tree_structure(b):
        return False
    for x, y in zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        if x.shape != y.shape or x.dtype != y.dtype:
            return False
        if not np.allclose(x, y, rtol=rtol, atol=atol):
            return False
    return True


def order_seen(errors):
    """The order of errors at steps of h, h/2 and h/4: their two slopes, extrapolated to
    steps of no length. A term of one order more drops out."""
    coarse, fine = np.log2(np.divide(errors[:-1], errors[1:]))
    return 2 * fine - coarse


def slope(steps, errors):
    """The slope of log(error) over log(step): the order seen."""
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]
