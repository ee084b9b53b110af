"""The arguments of an ensemble, checked once and brought to normal form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray, PyTree

from .._core import is_concrete
from ..backends import check_options
from ..problems import Problem, check_kind
from ._reduction import Reduction

_VERBS = ("init", "update", "merge", "result", "describe")


def check_problem(problem: Any) -> None:
    """Refuse what is no problem, or is being traced."""
    check_kind("ensemble", problem, "ode", "sde")
    if not all(is_concrete(leaf) for leaf in jtu.tree_leaves(problem)):
        raise TypeError(
            "ensemble: `problem` must be concrete: an ensemble runs in batches from "
            "Python. Inside jax.jit and jax.grad, use jax.vmap over solve."
        )


def check_solve(
    problem: Problem,
    backend: str,
    key: PRNGKeyArray,
    saveat: Any,
    options: Mapping[str, Any],
) -> tuple[dict[str, Any], np.ndarray | None]:
    """The options of every solve, and the times to save.

    **Returns:** options for `solve`, numbers as floats; the times in the dtype of the
    problem, or `None`.
    """
    extra = dict(options)
    if extra.pop("event", None) is not None:
        raise ValueError(
            "ensemble: trajectories take no `event`; look for exits with "
            "reduce=ExitFlags(region)."
        )
    for name in ("path", "adjoint"):
        if name in extra:
            raise TypeError(
                f"ensemble: takes no `{name}`"
                + (": every trajectory has its own." if name == "path" else ".")
            )
    if isinstance(saveat, str | diffrax.SaveAt):
        raise ValueError(
            "ensemble: `saveat` must be None, for the final time, or an array of "
            f"times, so that trajectories share them; got {saveat!r}."
        )
    named = {name: extra.pop(name) for name in ("solver", "rtol", "atol", "dt")}
    max_steps = extra.pop("max_steps")
    checked = check_options(
        problem,
        backend,
        **named,
        key=key if problem.kind.follows_path else None,
        saveat=saveat,
        max_steps=max_steps,
        extra=extra,
    )
    if not np.isfinite(float(problem.t1)):
        raise ValueError(
            "ensemble: `t1` must be finite, so that trajectories end together; got "
            f"{float(problem.t1)}."
        )
    # The solver's default is named, so that it is no other in a resumed run.
    named["solver"] = checked.solver
    for name in ("rtol", "atol", "dt"):
        named[name] = None if named[name] is None else float(named[name])
    times = None if checked.saveat is None else np.asarray(checked.saveat)
    return {**named, "max_steps": max_steps, **extra}, times


def check_initial(
    initial: Any,
    problem: Any,
    n: int,
    key: PRNGKeyArray | None,
    caller: str = "ensemble",
) -> Any:
    """A callable `key -> y0`, or arrays with a leading axis of `n`, or `None`.

    **Returns:** the callable, or the arrays as NumPy's.
    """
    if initial is None:
        if not problem.kind.follows_path and n > 1:
            raise ValueError(
                f"{caller}: all trajectories of an ODEProblem are the same without "
                "`initial`: pass a callable key -> y0, or the states of all as arrays "
                f"with a leading axis of {n}."
            )
        return None
    expected = jtu.tree_structure(problem.y0)
    if callable(initial):
        try:
            states = eqx.filter_eval_shape(initial, key)
        except Exception as error:
            raise ValueError(
                f"{caller}: `initial` could not be evaluated as initial(key): "
                f"{type(error).__name__}: {error}"
            ) from error
        lead: tuple[int, ...] = ()
    else:
        try:
            states = jtu.tree_map(np.asarray, initial)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{caller}: `initial` must be a callable key -> y0 or arrays, got "
                f"{type(initial).__name__}."
            ) from error
        lead = (n,)
    found = jtu.tree_structure(states)
    if found != expected:
        raise ValueError(
            f"{caller}: `initial` must have the structure of `y0`, {expected}, got "
            f"{found}."
        )
    for (path, y), state in zip(
        jtu.tree_flatten_with_path(problem.y0)[0], jtu.tree_leaves(states), strict=True
    ):
        shape = (*lead, *y.shape)
        if state.shape != shape or state.dtype != y.dtype:
            raise ValueError(
                f"{caller}: `initial{jtu.keystr(path)}` must have shape {shape} and "
                f"dtype {y.dtype}, got {state.shape} and {state.dtype}."
            )
        if lead and not np.all(np.isfinite(state)):
            bad = int(np.flatnonzero(~np.isfinite(state.reshape(n, -1)).all(axis=1))[0])
            raise ValueError(
                f"{caller}: `initial{jtu.keystr(path)}` must be finite, but is not for "
                f"trajectory {bad}."
            )
    return initial if callable(initial) else states


def check_reduce(reduce: Any) -> dict[str, Reduction] | None:
    """Reductions by name; one alone has the name `""`."""
    if reduce is None:
        return None
    named: PyTree = reduce if isinstance(reduce, Mapping) else {"": reduce}
    if not named:
        raise ValueError("ensemble: `reduce` is an empty dict; pass None to keep all.")
    for name, one in named.items():
        if isinstance(one, type):
            raise TypeError(
                f"ensemble: `reduce` must hold {one.__name__}(…), not the class."
            )
        if not isinstance(name, str) or not all(
            callable(getattr(one, verb, None)) for verb in _VERBS
        ):
            raise TypeError(
                "ensemble: `reduce` must be None, a reduction such as Moments(), or a "
                f"dict of reductions by name; got {name!r}: {type(one).__name__}."
            )
    return dict(named)


def check_mesh(mesh: Any, backend: str, executor: Any) -> None:
    """A mesh of devices, for Diffrax in this process."""
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(
            "ensemble: `mesh` must be a jax.sharding.Mesh, such as "
            f'jax.make_mesh((2,), ("trajectories",)); got {type(mesh).__name__}.'
        )
    if backend != "diffrax" or executor is not None:
        raise ValueError(
            "ensemble: a `mesh` shards Diffrax ensembles of this process; leave it "
            'out with backend="julia" or an `executor`.'
        )
