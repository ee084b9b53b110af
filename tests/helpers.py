"""What several test modules share: comparison of pytrees, slopes, small problems."""

import jax.tree_util as jtu
import numpy as np


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


def slope(steps, errors):
    """The slope of log(error) over log(step): the order seen."""
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]
