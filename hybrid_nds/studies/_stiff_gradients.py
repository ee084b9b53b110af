"""Gradients through stiff equations: which vanish, which fail, which train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import scipy.integrate
from jaxtyping import Array, Float
from numpy.polynomial import Polynomial

from ..methods import STIFF_SOLVERS
from ..problems import ODEProblem
from ..solving import solve
from ..training import fit
from ._claim import Claim
from ._findings import Findings
from ._marks import mark
from ._stiff_neural import RATES, STOICHIOMETRY
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Kim, Ji, Deng, Ma & Rackauckas 2021, Stiff neural ordinary differential "
    "equations; Fronk & Petzold 2025, The vanishing gradient problem for stiff neural "
    "differential equations (arXiv 2508.01519); Hairer & Wanner 1996, Solving Ordinary "
    "Differential Equations II, sections IV.3 and IV.5"
)
END = 40.0
SCALINGS = {
    "equations and loss": (True, True),
    "loss alone": (False, True),
    "equations alone": (True, False),
    "neither": (False, False),
}
"""What of a network and of its loss is in units of each component's range."""


def diagonally_implicit(gamma: float, stages: int) -> tuple[Polynomial, Polynomial]:
    """Numerator and denominator of an L-stable stability function with one pole.

    The denominator is $(1 - \\gamma z)^s$, and the numerator what $e^z$ times it is up
    to the power $s - 1$ (Hairer & Wanner 1996, section IV.6), for methods whose order
    is at least that.
    """
    below = Polynomial([1.0, -gamma]) ** stages
    powers = np.arange(stages)
    exponential = Polynomial(1.0 / np.cumprod(np.maximum(powers, 1)))
    return (exponential * below).cutdeg(stages - 1), below


STABILITY_FUNCTIONS = {
    "ImplicitEuler": diagonally_implicit(1.0, 1),
    "Rosenbrock23": diagonally_implicit(1 - 0.5**0.5, 2),
    "Kvaerno3": diagonally_implicit(0.4358665215084589994, 3),
    "KenCarp4": diagonally_implicit(0.25, 5),
    "Kvaerno5": diagonally_implicit(0.26, 6),
    "Trapezoid": (Polynomial([1.0, 0.5]), Polynomial([1.0, -0.5])),
    "RadauIIA5": (
        Polynomial([1.0, 2 / 5, 1 / 20]),
        Polynomial([1.0, -3 / 5, 3 / 20, -1 / 60]),
    ),
}
METHODS = {
    "diffrax": ("ImplicitEuler", "Kvaerno3", "KenCarp4", "Kvaerno5"),
    "julia": ("ImplicitEuler", "Trapezoid", "Rosenbrock23", "KenCarp4", "RadauIIA5"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """How many methods, at which products of step and rate; the trainings."""

    methods: int = 5
    products: tuple[float, ...] = (-1.0, -10.0, -100.0, -1e3, -1e4)
    tolerance: float = 1e-8
    scalings: tuple[str, ...] = tuple(SCALINGS)
    data: int = 30
    width: int = 8
    depth: int = 3
    steps: int = 600
    rate: float = 1e-2
    seed: int = 0


def linear(t: Any, y: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """$\\lambda y$."""
    return args * y


def robertson(t: Any, y: Float[Array, " 3"], args: Any) -> Float[Array, " 3"]:
    """Robertson's kinetics, for any rate constants."""
    slow, fast, back = args[0] * y[0], args[1] * y[1] ** 2, args[2] * y[1] * y[2]
    return jnp.stack([back - slow, slow - fast - back, fast])


def slope(method: str, z: float) -> float:
    """The derivative $R'(z)$ of a method's stability function."""
    above, below = STABILITY_FUNCTIONS[method]
    top = above.deriv()(z) * below(z) - above(z) * below.deriv()(z)
    return float(top / below(z) ** 2)


def variations(end: float) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"]]:
    """Robertson's state and its derivatives by the three rate constants.

    The variational equations, by SciPy's Radau method at a tolerance of 1e-11.
    """

    def field(t: float, joint: np.ndarray) -> np.ndarray:
        (a, b, c), tangents = joint[:3], joint[3:].reshape(3, 3)
        slow, fast, back = RATES
        reactions = np.array([a, b**2, b * c])
        by_state = np.array(
            [[slow, 0.0, 0.0], [0.0, 2 * fast * b, 0.0], [0.0, back * c, back * b]]
        )
        turned = STOICHIOMETRY @ (by_state @ tangents + np.diag(reactions))
        return np.concatenate([STOICHIOMETRY @ (RATES * reactions), turned.ravel()])

    start = np.zeros(12)
    start[0] = 1.0
    sizes = np.array([1.0, 1e-5, 1.0])
    scale = np.concatenate([sizes, np.outer(sizes, 1 / RATES).ravel()])
    found = scipy.integrate.solve_ivp(
        field, (0.0, end), start, "Radau", rtol=1e-11, atol=1e-13 * scale
    )
    last = found.y[:, -1]
    return last[:3], last[3:].reshape(3, 3)


@study(
    title="Gradients through stiff equations",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(
        methods=2,
        products=(-10.0, -1e3, -1e4),
        scalings=("equations and loss", "neither"),
        steps=150,
    ),
    paper=Config(steps=5000, data=60, width=16),
)
def stiff_gradients(config: Config, backend: str, sweep: Sweep) -> Findings:
    """Can a network be trained through a stiff solve?

    Three things stand in the way. *Gradients vanish*: a step of an implicit method
    multiplies by its stability function \\(R(z)\\), and the gradient by a fast rate is
    \\(R'(z)\\). Where \\(R\\) is rational and bounded, as it is for every A-stable
    one-step method, \\(R'\\) falls as \\(z^{-2}\\), and at least as \\(1/|z|\\) for
    any other. *Adjoints fail*: an adjoint that solves for the state backward in time
    (Chen et al. 2018) multiplies its errors by \\(e^{\\lambda t}\\), with the fast rate
    \\(\\lambda\\), of which Robertson's kinetics have thousands a second; one that goes
    back along the recorded steps does not. *Scales part*: the second of Robertson's
    components is \\(10^{-5}\\) of the others.

    Following Kim et al., a small network learns the kinetics from \\(10^{-2}\\) to
    \\(10^5\\) seconds, where they follow their slow manifold, by its mean absolute
    error: with equations and loss in units of each component's range and of the whole
    time, with one of the two, and with neither. Shown are errors in those units.
    """
    methods = METHODS[backend][: config.methods]
    points = [(m, z, backend) for m in methods for z in config.products]
    found = np.reshape(sweep(_sensitivity, points), (len(methods), -1))
    exact = np.array([[slope(m, z) for z in config.products] for m in methods])
    fall = np.log(np.abs(found[:, -1] / found[:, -2])) / np.log(
        config.products[-1] / config.products[-2]
    )
    state, by_rates = variations(END)
    discrete = np.reshape(
        sweep(_gradients, [(config.tolerance, backend)])[0], by_rates.shape
    )
    gap = float(np.max(np.abs(discrete - by_rates) / np.abs(by_rates)))
    fast = RATES[1] * 2 * state[1] + RATES[2] * state[2] + RATES[0]
    growth = float(
        sweep(_growth_backward, [(*state.tolist(), float(fast), backend)])[0]
    )
    trainings = [(config, name, backend) for name in config.scalings]
    errors = dict(zip(config.scalings, sweep(_training, trainings), strict=True))
    both = float(errors["equations and loss"][1])
    claims = [
        Claim(
            "gradients of one step over R′(z), less one",
            expected=0.0,
            source="closed forms of the stability functions (Hairer & Wanner 1996)",
            measured=float(np.max(np.abs(found / exact - 1))),
            tolerance=1e-6,
            reason="Newton's method to 1e-10 or better, and cancellation by |z| of "
            "round-off",
        ),
        Claim(
            "the slowest power of z with which they vanish",
            expected=-2.0,
            source="R(z) = R(∞) + c/z + …, from the last two z",
            measured=float(np.max(fall)),
            tolerance=0.1,
            reason="the next power of z: some tens over |z| = 1000",
        ),
        Claim(
            "the discrete adjoint: derivatives of Robertson's state at 40 s by its "
            "rates, largest relative error",
            expected=0.0,
            source="variational equations by SciPy's Radau method at 1e-11",
            measured=gap,
            tolerance=100 * config.tolerance,
            reason="some hundred steps, each to the tolerance",
        ),
        Claim(
            "growth of an error of the state backward in time, over the fast rate",
            expected=1.0,
            source="trace of the Jacobian at 40 s, whose other eigenvalues are 1e-4 "
            "of it or zero",
            measured=growth,
            tolerance=0.01,
            reason="the slow eigenvalue, and the change of the fast one within five "
            "of its times",
        ),
        Claim(
            "scaled equations and loss: error of the second component over its range",
            relation="≤",
            expected=0.3,
            source="learned, as in Kim et al. 2021, figure 4",
            measured=both,
            tolerance=0.0,
            reason="a threshold",
        ),
    ]
    for name, least in (("loss alone", 2), ("equations alone", 2), ("neither", 10)):
        if name in errors:
            claims.append(
                Claim(
                    f"scaled {name}: that error over the one with both",
                    relation="≥",
                    expected=float(least),
                    source="not learned, as in Kim et al. 2021, section III",
                    measured=float(errors[name][1]) / both,
                    tolerance=0.0,
                    reason="a threshold",
                )
            )
    return Findings(
        claims=tuple(claims),
        data={
            "products": np.array(config.products),
            "found": found,
            "errors": np.stack([errors[name] for name in config.scalings]),
        },
    )


def _sensitivity(point: tuple[str, float, str]) -> float:
    """The gradient of the end of one step by the product of its length and rate."""
    method, z, backend = point

    def end(rate: Any) -> Any:
        problem = ODEProblem(linear, jnp.ones(1), 0.0, 1.0, args=rate)
        return solve(problem, backend, solver=method, dt=1.0).ys[-1, 0]

    return float(jax.grad(end)(jnp.asarray(z)))


def _gradients(point: tuple[float, str]) -> Float[np.ndarray, " nine"]:
    """Derivatives of Robertson's state by its rates, by the discrete adjoint."""
    tolerance, backend = point

    def end(rates: Any) -> Any:
        start = jnp.array([1.0, 0.0, 0.0])
        problem = ODEProblem(robertson, start, 0.0, END, args=rates)
        return solve(
            problem,
            backend,
            solver=STIFF_SOLVERS[backend],
            rtol=tolerance,
            atol=1e-6 * tolerance,
        ).ys[-1]

    return np.asarray(jax.jacrev(end)(jnp.asarray(RATES))).ravel()


def _growth_backward(point: tuple[float, float, float, float, str]) -> float:
    """The rate at which an error of the second component grows, over the fast rate."""
    *state, fast, backend = point
    span, nudge = 5 / fast, 1e-10

    def end(offset: float) -> np.ndarray:
        start = jnp.array(state) + jnp.array([0.0, offset, 0.0])
        problem = ODEProblem(robertson, start, END, END - span, args=jnp.array(RATES))
        found = solve(problem, backend, solver="Tsit5", rtol=1e-11, atol=1e-17)
        return np.asarray(found.ys[-1])

    apart = (end(nudge) - end(-nudge))[1] / (2 * nudge)
    return float(np.log(apart) / 5)


class _Surrogate(eqx.Module):
    """A network in units of the components' ranges, or in those of the state."""

    network: eqx.nn.MLP
    scale: tuple[float, ...] = eqx.field(static=True)
    end: float = eqx.field(static=True)

    def __call__(self, t: Any, y: Float[Array, " 3"], args: Any) -> Float[Array, " 3"]:
        scale = jnp.asarray(self.scale, y.dtype)
        return scale * self.network(y / scale) / self.end


class _AbsoluteError(eqx.Module):
    """Mean absolute error along a solution, each component in a unit of its own."""

    scale: tuple[float, ...] = eqx.field(static=True)
    backend: str = eqx.field(static=True)

    def along(self, model: _Surrogate, batch: Any) -> Float[Array, " 3"]:
        """The mean over times, in the units of the data's ranges."""
        times, states = (part[0] for part in batch)
        problem = ODEProblem(model, states[0], times[0], times[-1])
        found = solve(
            problem,
            self.backend,
            solver=STIFF_SOLVERS[self.backend],
            rtol=1e-6,
            atol=np.array([1e-8, 1e-12, 1e-8]),
            saveat=times,
            throw=False,
        ).ys
        return jnp.mean(jnp.abs(found - states), axis=0)

    def __call__(self, model: _Surrogate, batch: Any, key: Any) -> Float[Array, ""]:
        return jnp.mean(self.along(model, batch) / jnp.asarray(self.scale))


def _training(point: tuple[Config, str, str]) -> Float[np.ndarray, " 3"]:
    """The error of each component over its range, after a training."""
    config, name, backend = point
    times = np.geomspace(1e-2, 1e5, config.data)
    start = jnp.array([1.0, 0.0, 0.0])
    truth = ODEProblem(robertson, start, 0.0, 1e5, args=jnp.asarray(RATES))
    options: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-14, "saveat": times}
    states = np.asarray(solve(truth, solver=STIFF_SOLVERS["diffrax"], **options).ys)
    ranges = np.ptp(states, axis=0)
    units = [
        tuple(ranges.tolist()) if scaled else (1.0, 1.0, 1.0)
        for scaled in SCALINGS[name]
    ]
    network = eqx.nn.MLP(
        3, 3, config.width, config.depth, jax.nn.gelu, key=jr.key(config.seed)
    )
    loss = _AbsoluteError(units[1], backend)
    batch = (jnp.asarray(times)[None], jnp.asarray(states)[None])
    trained = fit(
        _Surrogate(network, units[0], float(times[-1])),
        batch,
        loss,
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adam(optax.cosine_decay_schedule(config.rate, config.steps, 0.01)),
        ),
        steps=config.steps,
        key=jr.key(config.seed),
    )
    return np.asarray(loss.along(trained.model, batch)) / ranges


@stiff_gradients.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Gradients of one step, and what was learned with each scaling."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    shown = [m for b in findings for m in METHODS[b][: config.methods]]
    colors = {method: f"C{n}" for n, method in enumerate(dict.fromkeys(shown))}
    many = -np.geomspace(0.5, 2 * max(-z for z in config.products), 200)
    for method, color in colors.items():
        curve = [abs(slope(method, z)) for z in many]
        left.loglog(-many, curve, color=color, lw=1.0, label=method)
    width = 0.8 / len(findings)
    for number, (backend, found) in enumerate(findings.items()):
        data = found.data
        for method, row in zip(METHODS[backend], data["found"], strict=False):
            left.loglog(
                -data["products"], np.abs(row), color=colors[method], **mark(backend)
            )
        places = np.arange(len(config.scalings)) + (number + 0.5) * width - 0.4
        right.bar(places, data["errors"][:, 1], 0.9 * width, label=backend)
    left.set_xlabel("$-z$, step times fast rate")
    left.set_ylabel("gradient of one step, $|R'(z)|$")
    left.legend(fontsize=7)
    right.set_yscale("log")
    right.axhline(1.0, color="k", lw=0.7)
    right.set_xticks(range(len(config.scalings)))
    right.set_xticklabels([name.replace(" and ", "\nand ") for name in config.scalings])
    right.tick_params(axis="x", labelsize=7)
    right.set_xlabel("what is in units of the components' ranges")
    right.set_ylabel("error of the second component / its range")
    right.legend(fontsize=7)
