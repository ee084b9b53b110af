"""Interacting particles against independent copies of their mean-field limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import PRNGKeyArray

from .._core import precision_of
from ..analysis import analysis_provenance
from ..problems import SDEProblem, check_kind
from ._runs import draw, needs_area, path_solver
from ._scaling import Scaling, check_sizes, scaling_of


def propagation_of_chaos(
    particles: Callable[[int], SDEProblem],
    limit: Callable[[int], SDEProblem] | None = None,
    *,
    solver: str,
    steps: int,
    key: PRNGKeyArray,
    counts: Sequence[int] = (8, 16, 32, 64, 128),
    draws: int = 64,
    backend: str = "diffrax",
    level: float = 0.95,
) -> Scaling:
    """How fast particles that interact through their mean become independent.

    Synchronous coupling: particle $i$ of $N$ and particle $i$ of the limit start from
    one state and are driven by the same Brownian motions. The error is
    $(N^{-1} \\sum_i E|X^{i,N}_{t_1} - \\bar X^i_{t_1}|^2)^{1/2}$, of slope
    $-\\tfrac12$ for Lipschitz interactions (Sznitman 1991, theorem I.1.4). Both run in
    the same scheme and steps, whose own error so cancels but for its dependence on $N$.

    **Arguments:**

    - `particles`: the system of so many particles, as an
        [`SDEProblem`][hybrid_nds.SDEProblem] whose state has a leading axis of
        particles, in one array; of `m` Brownian motions for each particle, in the order
        of the particles.
    - `limit`: so many independent copies of the limit, in the same form. Without it,
        the first particles of a system eight times the largest stand for them.
    - `solver`, `backend`: see [`solve`][hybrid_nds.solve].
    - `steps`: how many fixed steps to take.
    - `key`: a JAX random key.
    - `counts`: numbers of particles, three or more.
    - `draws`: independent repetitions.
    - `level`: of the interval.

    **Returns:** a [`Scaling`][hybrid_nds.discretization.Scaling] over `"particles"`.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    caller = "propagation_of_chaos"
    sizes = check_sizes(caller, "counts", counts)
    if draws < 2:
        raise ValueError(f"{caller}: `draws` must be two or more, got {draws}.")
    if steps < 1:
        raise ValueError(f"{caller}: `steps` must be one or more, got {steps}.")
    most = sizes[-1] * (1 if limit is not None else 8)
    largest = _system(caller, "particles", particles, most)
    motions = largest.noise_dimension // most
    with precision_of(largest):
        area = needs_area(solver, backend)
        dw, areas = draw(caller, largest, key, draws, steps, area)

        def ends(problem: SDEProblem, count: int) -> np.ndarray:
            own = slice(0, count * motions)
            h = None if areas is None else areas[..., own]
            states = path_solver(problem, backend, solver, steps)(dw[..., own], h)
            return states[:, -1].reshape(draws, count, -1).astype(float)

        reference = "the first particles of the largest system"
        if limit is None:
            truth = ends(largest, most)
        else:
            reference = "independent copies of the limit, on the same noise"
            truth = ends(_system(caller, "limit", limit, most), most)
        errors = np.stack(
            [
                np.sqrt(
                    np.mean(
                        np.sum(
                            (
                                ends(_system(caller, "particles", particles, n), n)
                                - truth[:, :n]
                            )
                            ** 2,
                            axis=2,
                        ),
                        axis=1,
                    )
                )
                for n in sizes
            ]
        )
    settings = {"steps": steps}
    span = float(largest.t1) - float(largest.t0)
    where = analysis_provenance(
        backend,
        solver,
        field="jax" if backend == "diffrax" else "lowered",
        dt=span / steps,
    )
    return scaling_of(
        caller, "particles", sizes, errors, reference, level, settings, where
    )


def _system(
    caller: str, name: str, make: Callable[[int], SDEProblem], count: int
) -> SDEProblem:
    problem = make(count)
    check_kind(caller, problem, "sde", name=f"{name}({count})")
    shape = getattr(problem.y0, "shape", None)
    if not shape or shape[0] != count or problem.noise_dimension % count:
        raise ValueError(
            f"{caller}: `{name}({count})` must have a state of one array with a "
            f"leading axis of {count} particles, and as many Brownian motions for "
            f"each; got the shape {shape} and {problem.noise_dimension} motions."
        )
    return problem
