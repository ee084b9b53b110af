"""Finite networks against their continuous limits, as depth or width grows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from .._core import Axis, Panels, check_whole, precision_of
from ..analysis import AnalysisResult, analysis_provenance
from ..backends import state_size
from ..problems import ODEProblem
from ..solution import Provenance
from ..solving import solve
from ._draws import over_draws
from ._estimate import OrderEstimate, draw_slope, fit_order
from ._runs import flat_end

_RTOL = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Scaling(AnalysisResult):
    """How the distance of finite systems to their limit falls with their size.

    **Fields:**

    - `quantity`: what grows: `"depth"`, `"width"` or `"particles"`.
    - `slope`: of log error over log size, and the interval from `low` to `high` that
        holds it with probability `level`.
    - `sizes`, `errors`: shape `(sizes,)`; errors are Euclidean norms, or their root
        mean squares over draws, in the unit of the output; `standard_errors` of them,
        from sampling alone.
    - `draws`: how many independent draws the errors are means of; 1 for none.
    - `reference`: what the errors are measured against, as text.
    - `settings`, `provenance`: see
        [`AnalysisResult`][hybrid_nds.analysis.AnalysisResult].
    """

    estimate: ClassVar = ("slope", "low", "high")

    quantity: str
    slope: float
    low: float
    high: float
    level: float
    sizes: Axis[Int[np.ndarray, " size"]]
    errors: Float[np.ndarray, " size"]
    standard_errors: Float[np.ndarray, " size"]
    draws: int
    reference: str
    settings: Mapping[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        drawn = f"; {self.draws} draws" if self.draws > 1 else ""
        lines = [
            f"error over {self.quantity}: slope {self.slope:.3f}, {self.level:.4g} "
            f"interval [{self.low:.3f}, {self.high:.3f}]",
            f"against {self.reference}{drawn}",
            f"{self.quantity:>12}{'error':>12}{'± sampling':>12}",
        ]
        rows = zip(self.sizes, self.errors, self.standard_errors, strict=True)
        lines += [f"{n:>12d}{e:>12.3e}{s:>12.1e}" for n, e, s in rows]
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        label = f"slope {self.slope:.3f} in [{self.low:.3f}, {self.high:.3f}]"
        draw_slope(
            axes, self.sizes, self.errors, self.standard_errors, self.slope, label
        )
        axes.set_xlabel(self.quantity)
        axes.set_ylabel("error" if self.draws == 1 else "root mean square error")


def depth_scaling(
    network: Callable[..., Any],
    limit: Any,
    *,
    depths: Sequence[int] = (8, 16, 32, 64, 128, 256, 512),
    draws: int = 1,
    key: PRNGKeyArray | None = None,
    level: float = 0.95,
) -> Scaling:
    """How fast networks of growing depth approach their limit.

    For residual networks $x_{l+1} = x_l + L^{-1} f(l/L, x_l)$ with $f$ smooth in depth
    the slope is $-1$, that of Euler's method for $\\dot x = f(t, x)$ (Weinan E 2017;
    Hairer, Nørsett & Wanner 1993, theorem II.3.4); with weights drawn anew for each
    layer it is $-\\tfrac12$, or the limit is another (Cohen, Cont, Rossier & Xu 2021).

    **Arguments:**

    - `network`: the output of a network by its depth, `depth -> output`, or
        `(depth, key) -> output` where `draws` asks for random ones, in JAX: it is
        compiled once for each depth.
    - `limit`: the output of the limit: an array like it; a function `key -> output` for
        a limit as random as the networks; or an [`ODEProblem`][hybrid_nds.ODEProblem],
        whose end it is.
    - `depths`: three or more.
    - `draws`: how many independent networks of each depth; errors are then root mean
        squares over them. Large networks are computed in batches, so that memory does
        not grow with their number.
    - `key`: a JAX random key, for draws.
    - `level`: of the interval.

    **Returns:** a [`Scaling`][hybrid_nds.discretization.Scaling].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    return _scaling(
        "depth_scaling", "depth", "depths", network, limit, depths, draws, key, level
    )


def width_scaling(
    network: Callable[..., Any],
    limit: Any,
    *,
    widths: Sequence[int] = (8, 16, 32, 64, 128, 256, 512),
    draws: int = 64,
    key: PRNGKeyArray | None = None,
    level: float = 0.95,
) -> Scaling:
    """How fast networks of growing width approach their limit.

    The mean of $N$ independent neurons is off by $N^{-1/2}$ in the root mean square
    (the law of large numbers; Mei, Montanari & Nguyen 2018, theorem 1).

    **Arguments:** as of
    [`depth_scaling`][hybrid_nds.discretization.depth_scaling], with `widths`, and
    `network` a function `(width, key) -> output` unless `draws` is 1.

    **Returns:** a [`Scaling`][hybrid_nds.discretization.Scaling].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    return _scaling(
        "width_scaling", "width", "widths", network, limit, widths, draws, key, level
    )


def _scaling(
    caller: str,
    quantity: str,
    argument: str,
    network: Any,
    limit: Any,
    sizes: Sequence[int],
    draws: int,
    key: Any,
    level: float,
) -> Scaling:
    if not callable(network):
        raise TypeError(
            f"{caller}: `network` must be a function, got {type(network).__name__}."
        )
    counts = check_sizes(caller, argument, sizes)
    check_whole(caller, "draws", draws)
    if draws > 1 and key is None:
        raise ValueError(f"{caller}: random networks need a JAX random `key`.")
    reference = "the limit of the same draw"
    keys = (
        None
        if draws == 1
        else jax.vmap(lambda j: jr.fold_in(key, j))(jnp.arange(draws))
    )
    if isinstance(limit, ODEProblem) or not callable(limit):
        truth, reference = _limit(caller, limit)
    elif keys is None:
        raise ValueError(
            f"{caller}: a `limit` that depends on a key needs more than one of `draws`."
        )
    else:
        truth = _flat(caller, over_draws(limit, keys), draws)
    errors = np.empty((len(counts), draws))
    for i, count in enumerate(counts):
        if keys is None:
            found = _flat(caller, network(count))
        else:
            drawn = functools.partial(network, count)
            found = _flat(caller, over_draws(drawn, keys), draws)
        if found.shape[-1] != truth.shape[-1]:
            raise ValueError(
                f"{caller}: `network` must return as many numbers as `limit`, "
                f"{truth.shape[-1]}; got {found.shape[-1]} for a {quantity} of {count}."
            )
        errors[i] = np.linalg.norm(found - truth, axis=-1)
    return scaling_of(caller, quantity, counts, errors, reference, level, {})


def scaling_of(
    caller: str,
    quantity: str,
    sizes: Sequence[int],
    errors: np.ndarray,
    reference: str,
    level: float,
    settings: Mapping[str, Any],
    provenance: Provenance | None = None,
) -> Scaling:
    """The scaling in a table of errors, of shape `(sizes, draws)`."""
    draws = errors.shape[1]
    if not np.all(np.isfinite(errors)):
        bad = sizes[int(np.argmin(np.isfinite(errors).all(axis=1)))]
        raise ValueError(f"{caller}: outputs are not finite for a {quantity} of {bad}.")
    power = 1 if draws == 1 else 2
    fit: OrderEstimate = fit_order(
        [1 / n for n in sizes], errors**power, kind="deterministic", level=level
    )
    means = np.array(fit.errors)
    found = means ** (1 / power)
    return Scaling(
        quantity=quantity,
        slope=-fit.order / power,
        low=-fit.high / power,
        high=-fit.low / power,
        level=level,
        sizes=np.asarray(sizes),
        errors=found,
        standard_errors=np.array(fit.standard_errors) / (power * found ** (power - 1)),
        draws=draws,
        reference=reference,
        settings={"draws": draws, "level": level, **settings},
        provenance=provenance or analysis_provenance("jax", caller),
    )


def check_sizes(caller: str, argument: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Sizes, smallest first."""
    counts = tuple(sorted(int(size) for size in sizes))
    if len(counts) < 3 or counts[0] < 1 or len(set(counts)) < len(counts):
        raise ValueError(
            f"{caller}: `{argument}` must be three or more different positive whole "
            f"numbers, got {list(sizes)}."
        )
    return counts


def _limit(caller: str, limit: Any) -> tuple[np.ndarray, str]:
    if not isinstance(limit, ODEProblem):
        return _flat(caller, limit), "the limit given"
    with precision_of(limit):
        tolerance = _RTOL if limit.dtype == np.float64 else 1e-6
        absolute = tolerance * state_size(limit)
        solution = solve(limit, solver="Dopri8", rtol=tolerance, atol=absolute)
        return flat_end(solution), f"its differential equation, solved to {tolerance:g}"


def _flat(caller: str, output: Any, draws: int | None = None) -> np.ndarray:
    """An output as one vector, or those of all draws as rows."""
    leaves = [np.asarray(leaf) for leaf in jtu.tree_leaves(output)]
    if not leaves or not all(np.issubdtype(x.dtype, np.number) for x in leaves):
        raise TypeError(
            f"{caller}: outputs must be arrays of real numbers, got {output!r}."
        )
    shape = (-1,) if draws is None else (draws, -1)
    return np.concatenate([x.reshape(shape) for x in leaves], axis=-1).astype(float)
