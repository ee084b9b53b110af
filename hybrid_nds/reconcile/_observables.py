"""What a user wants from a solution: one number from its times and states.

An observable is a function `(ts, ys) -> float` of the times and of the states, an
array with a leading axis of times. The builders here take the problem's parameters
and the options a fixture's `[[observables]]` entry gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

Observable = Callable[[np.ndarray, np.ndarray], float]


def _flat_end(ys: np.ndarray) -> np.ndarray:
    return np.asarray(ys)[-1].ravel()


def _sum(parameters: Mapping[str, Any], components: list[int]) -> Observable:
    """The sum of the named components (counted from 0) at the last time."""
    del parameters
    return lambda ts, ys: float(np.sum(_flat_end(ys)[components]))


def _mean(parameters: Mapping[str, Any], first: int, last: int) -> Observable:
    """The mean of the components from `first` to before `last` at the last time."""
    del parameters
    return lambda ts, ys: float(np.mean(_flat_end(ys)[first:last]))


def _end(parameters: Mapping[str, Any], component: int) -> Observable:
    """One component (counted from 0) at the last time."""
    del parameters
    return lambda ts, ys: float(_flat_end(ys)[component])


def _largest(parameters: Mapping[str, Any], component: int) -> Observable:
    """The largest value of one component (counted from 0) over the times."""
    del parameters
    return lambda ts, ys: float(
        np.max(np.asarray(ys).reshape(len(ts), -1)[:, component])
    )


def _norm(parameters: Mapping[str, Any]) -> Observable:
    """The Euclidean norm of the state at the last time."""
    del parameters
    return lambda ts, ys: float(np.linalg.norm(_flat_end(ys)))


def _split_bodies(ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    position, velocity = _flat_end(ys).reshape(2, 2, -1)
    return position, velocity


def _bodies_energy(parameters: Mapping[str, Any]) -> Observable:
    """Kinetic and gravitational energy of the bodies at the last time."""
    masses = np.asarray(parameters["masses"], float)
    first, second = np.triu_indices(len(masses), 1)

    def energy(ts: np.ndarray, ys: np.ndarray) -> float:
        del ts
        position, velocity = _split_bodies(ys)
        distance = np.linalg.norm(position[:, first] - position[:, second], axis=0)
        kinetic = np.sum(masses * velocity**2) / 2
        return float(kinetic - np.sum(masses[first] * masses[second] / distance))

    return energy


def _bodies_momentum(parameters: Mapping[str, Any], axis: int) -> Observable:
    """The bodies' total momentum along one axis at the last time."""
    masses = np.asarray(parameters["masses"], float)
    return lambda ts, ys: float(masses @ _split_bodies(ys)[1][axis])


def _pendulum_length(parameters: Mapping[str, Any]) -> Observable:
    """The pendulum's length at the last time."""
    del parameters
    return lambda ts, ys: float(np.hypot(*_flat_end(ys)[:2]))


def _pendulum_energy(parameters: Mapping[str, Any]) -> Observable:
    """The pendulum's energy at the last time, zero at the height of its pivot."""
    gravity = float(parameters["gravity"])

    def energy(ts: np.ndarray, ys: np.ndarray) -> float:
        del ts
        _, height, *velocity, _ = _flat_end(ys)
        return float(np.dot(velocity, velocity) / 2 + gravity * height)

    return energy


def _order_parameter(parameters: Mapping[str, Any]) -> Observable:
    """The length of the tokens' mean at the last time: 1 when all have met."""
    del parameters
    return lambda ts, ys: float(np.linalg.norm(np.mean(np.asarray(ys)[-1], axis=0)))


def _sphere_distance(parameters: Mapping[str, Any]) -> Observable:
    """The largest distance of any token from the unit sphere over all times."""
    del parameters
    return lambda ts, ys: float(
        np.max(np.abs(np.linalg.norm(np.asarray(ys), axis=-1) - 1))
    )


def own_observable(name: str, function: Any) -> Observable:
    """An observable of a user's own, whose faults name it.

    **Raises:** `TypeError` for what is no function. The observable raises `TypeError`
    for a value that is no real number, `ValueError` for one that is not finite, and
    where the function itself raises.
    """
    where = f"reconcile: `observables[{name!r}]`"
    if not callable(function):
        raise TypeError(
            f"{where} must be a function (ts, ys) -> float, got {function!r}."
        )

    def observable(ts: np.ndarray, ys: np.ndarray) -> float:
        try:
            value = function(ts, ys)
        except Exception as error:
            raise ValueError(
                f"{where} raised {type(error).__name__}: {error}; it was called with "
                f"times of shape {np.shape(ts)} and states of shape {np.shape(ys)}."
            ) from error
        array = np.asarray(value)
        if array.shape != () or array.dtype.kind not in "biuf":
            raise TypeError(f"{where} must return one real number, got {value!r}.")
        if not np.isfinite(array):
            raise ValueError(f"{where} must return a finite number, got {value!r}.")
        return float(array)

    return observable


def sensitivity(
    observable: Observable, ts: np.ndarray, ys: np.ndarray, scale: np.ndarray
) -> float:
    """How far an observable moves with the states: what bounds its error.

    **Arguments:**

    - `observable`: a function `(ts, ys) -> float`.
    - `ts`: the times.
    - `ys`: the states, an array with a leading axis of times.
    - `scale`: the scale of each component, `(n,)`.

    **Returns:** the sum over the components of the observable's move per relative
    move of that component, at all times together. To first order, states that are off
    by δ relative to `|y| + scale` put the observable off by no more than δ times this.
    """
    # Moves in both directions, of the cube root of the precision of a double.
    move = 6e-6
    total = 0.0
    flat = np.asarray(ys, np.float64).reshape(len(ts), -1)
    for component in range(flat.shape[1]):
        values = []
        for sign in (1, -1):
            moved = flat.copy()
            step = np.abs(flat[:, component]) + scale[component]
            moved[:, component] += sign * move * step
            values.append(observable(ts, moved.reshape(np.shape(ys))))
        center = observable(ts, ys)
        # The larger side: observables with a kink move to one side alone.
        total += max(abs(value - center) for value in values) / move
    return total


OBSERVABLES: Mapping[str, Callable[..., Observable]] = MappingProxyType(
    {
        "bodies_energy": _bodies_energy,
        "bodies_momentum": _bodies_momentum,
        "end": _end,
        "largest": _largest,
        "mean": _mean,
        "norm": _norm,
        "order_parameter": _order_parameter,
        "pendulum_energy": _pendulum_energy,
        "pendulum_length": _pendulum_length,
        "sphere_distance": _sphere_distance,
        "sum": _sum,
    }
)
"""Builders of the fixtures' observables: `(parameters, **options) -> observable`."""
