"""Stiff kinetics and a network that learned them, with and without noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.integrate
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..methods import STIFF_SOLVERS
from ..models import Robertson
from ..problems import ODEProblem, SDEProblem
from ..solving import solve
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile
from ._marks import mark
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Robertson 1966; Hairer & Wanner 1996, Solving Ordinary Differential Equations II; "
    "Ji & Deng 2021, Autonomous discovery of unknown reaction pathways; Kim et al. "
    "2021, Stiff neural ordinary differential equations"
)
# Each column a reaction: A -> B, B + B -> C + B, B + C -> A + C.
STOICHIOMETRY = np.array([[-1.0, 0.0, 1.0], [1.0, -1.0, -1.0], [0.0, 1.0, 0.0]])
RATES = np.array([0.04, 3e7, 1e4])
PUBLISHED = np.array([0.1786592114209946e-1, 0.7274751468436319e-7, 0.9821340061103859])
"""The state at 1e5 seconds (Hairer & Wanner's reference solution)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The tolerance, the network's data, products of step and rate, and the noise."""

    tolerance: float = 1e-8
    data: int = 60
    products: tuple[float, ...] = (-10.0, -2.0, -1.0, -0.1)
    noise: float = 1e-7
    trajectories: int = 4000
    seed: int = 0


def robertson(t: Any, y: Float[Array, " 3"], args: Robertson) -> Float[Array, " 3"]:
    """Robertson's kinetics."""
    return args(t, y)


def network(t: Any, y: Float[Array, " 3"], args: Any) -> Float[Array, " 3"]:
    """Reactions whose rates are learned powers of the concentrations."""
    orders, constants = args
    logs = jnp.log(jnp.maximum(y, 1e-30))
    return jnp.asarray(STOICHIOMETRY) @ jnp.exp(orders @ logs + constants)


def constant_noise(t: Any, y: Float[Array, " 3"], args: Any) -> Float[Array, " 3"]:
    """Small additive noise in the fast component."""
    return args[1] * jnp.array([0.0, 1.0, 0.0], y.dtype)


def noisy(t: Any, y: Float[Array, " 3"], args: Any) -> Float[Array, " 3"]:
    """The drift beside it."""
    return robertson(t, y, args[0])


def linear(t: Any, y: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """$\\lambda y$."""
    return args * y


def learn(
    states: Float[np.ndarray, "m 3"],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Orders and logarithms of rate constants from observed rates.

    By least squares of the logarithms, which are linear in both.
    """
    a, b, c = states.T
    observed = np.log(RATES * np.stack([a, b**2, b * c], axis=1))
    design = np.concatenate([np.log(states), np.ones((len(states), 1))], axis=1)
    found = np.linalg.lstsq(design, observed, rcond=None)[0]
    return found[:3].T, found[3]


def stiffness_ratio(y: Float[np.ndarray, " 3"]) -> float:
    """The ratio of the two rates of Robertson's kinetics that are not zero.

    Mass is conserved: the others are the roots of $\\lambda^2 - T\\lambda + D$ with the
    trace $T$ and the sum $D$ of the principal minors of the Jacobian.
    """
    slow, fast, back = RATES
    left, right = 2 * fast * y[1], back * y[2]
    trace = -(slow + left + right)
    # Minors of rows 1-2, 1-3 and 2-3.
    minors = slow * left + left * back * y[1]
    # The larger root without cancellation; the other from the product.
    large = (trace - np.sqrt(trace**2 - 4 * minors)) / 2
    return float(large / (minors / large))


def reference(end: float) -> Float[np.ndarray, " 3"]:
    """Robertson's state by SciPy's Radau method, at a tolerance of 1e-12."""

    def field(t: float, y: np.ndarray) -> np.ndarray:
        return STOICHIOMETRY @ (RATES * np.array([y[0], y[1] ** 2, y[1] * y[2]]))

    found = scipy.integrate.solve_ivp(
        field, (0.0, end), [1.0, 0.0, 0.0], "Radau", rtol=1e-12, atol=1e-18
    )
    return found.y[:, -1]


@study(
    title="Stiff neural equations",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(trajectories=1000, products=(-2.0, -0.1)),
    paper=Config(trajectories=100_000, data=1000),
)
def stiff_neural(config: Config, backend: str, sweep: Sweep) -> Findings:
    """Can a network learn stiff kinetics, and stay solvable?

    Robertson's kinetics span eleven decades of time. A network of reactions, whose
    rates are learned powers of the concentrations, is fitted to rates along one
    solution and then solved in its place, to 40 and to 1e5 seconds; its stiffness
    ratio is that of the kinetics. A step of implicit Euler multiplies by
    \\(R(z) = (1 - z)^{-1}\\), and the sensitivity that is carried through it, by the
    adjoint, to the rate is \\(R'(z) = (1-z)^{-2}\\): gradients vanish where it is
    stiff.

    Small noise \\(\\varepsilon\\) in the fast component, of rate \\(\\lambda\\),
    gives it the variance \\(\\varepsilon^2/2\\lambda\\). Explicit steps must be
    shorter than \\(2/\\lambda\\); implicit ones (in Julia) are not, and damp the
    variance to \\(\\varepsilon^2h/((1 + \\lambda h)^2 - 1)\\).
    """
    start = jnp.array([1.0, 0.0, 0.0])
    model = Robertson(dtype=float)
    options = {
        "solver": STIFF_SOLVERS[backend],
        "rtol": config.tolerance,
        "atol": 1e-8 * config.tolerance,
    }
    times = np.geomspace(1e-4, 1e5, config.data)
    kept = np.sort(np.append(times, 40.0))
    truth = ODEProblem(robertson, start, 0.0, 1e5, args=model)
    states = np.asarray(solve(truth, backend, saveat=kept, **options).ys)
    learned = learn(states)
    args = tuple(jnp.asarray(part) for part in learned)
    # From the first observed state: logarithms of nothing cannot be learned.
    surrogate = ODEProblem(network, states[0], float(kept[0]), 1e5, args=args)
    copied = np.asarray(solve(surrogate, backend, saveat=kept[1:], **options).ys)
    middle = int(np.searchsorted(kept, 40.0))
    expected = np.stack([reference(40.0), PUBLISHED])
    errors = [
        float(np.max(np.abs(np.stack([found[at], found[-1]]) / expected - 1)))
        for found, at in ((states, middle), (copied, middle - 1))
    ]
    jacobian = jax.jacfwd(lambda y: network(0.0, y, args))(jnp.asarray(copied[-1]))
    rates = np.sort(np.abs(np.linalg.eigvals(np.asarray(jacobian))))
    ratio = float(rates[-1] / rates[-2])
    products = np.array(config.products)
    points = [(z, backend) for z in config.products]
    sensitivities = np.array(sweep(_sensitivity, points))
    point = (config.noise, config.trajectories, config.seed, backend)
    ((variance, error, expected),) = sweep(_fluctuations, [point])
    return Findings(
        claims=(
            Claim(
                "states at 40 and 1e5 seconds, largest relative error",
                expected=0.0,
                source="SciPy's Radau method at 1e-12, and Hairer & Wanner 1996",
                measured=errors[0],
                tolerance=100 * config.tolerance,
                reason="some hundred steps, each to the tolerance",
            ),
            Claim(
                "the network's states there, largest relative error",
                expected=0.0,
                source="SciPy's Radau method at 1e-12, and Hairer & Wanner 1996",
                measured=errors[1],
                tolerance=1000 * config.tolerance,
                reason="some hundred steps, each to the tolerance, from a state and "
                "with orders learned from states that are known to it",
            ),
            Claim(
                "the network's stiffness ratio over that of the kinetics, less one",
                expected=0.0,
                source="the roots of the characteristic polynomial at the published "
                "state",
                measured=ratio / stiffness_ratio(PUBLISHED) - 1,
                tolerance=1e-4,
                reason="a slow rate that is 1e-10 of the fast one, by eigenvalues of "
                "round-off 1e-16 of the fast one, and the error of the state",
            ),
            Claim(
                "sensitivities of a step of implicit Euler over (1 − z)⁻², less one",
                expected=0.0,
                source="R(z) = (1 − z)⁻¹ (Hairer & Wanner 1996, section IV.3)",
                measured=float(np.max(np.abs(sensitivities * (1 - products) ** 2 - 1))),
                tolerance=1e-6,
                reason="Newton's method to 1e-10 or better; differences of 1e-4 in z",
            ),
            Claim(
                "the variance of the fast component over that of the scheme",
                expected=1.0,
                source="Ornstein and Uhlenbeck's process in the scheme's steps",
                measured=variance / expected,
                error=error / expected,
                tolerance=normal_quantile() * error / expected + 0.01,
                reason="normal quantile; the rate changes by less than a hundredth",
                level=LEVEL,
            ),
        ),
        data={
            "times": kept,
            "states": states,
            "copied": copied,
            "products": products,
            "sensitivities": sensitivities,
        },
    )


def _sensitivity(point: tuple[float, str]) -> float:
    """How the end of one step of implicit Euler changes with the rate."""
    z, backend = point

    def end(rate: Any) -> Any:
        problem = ODEProblem(linear, jnp.ones(1), 0.0, 1.0, args=rate)
        return solve(problem, backend, solver="ImplicitEuler", dt=1.0).ys[-1, 0]

    if backend == "diffrax":
        return float(jax.grad(end)(jnp.asarray(z)))
    above, below = (float(end(jnp.asarray(z + off))) for off in (1e-4, -1e-4))
    return (above - below) / 2e-4


def _fluctuations(point: tuple[float, int, int, str]) -> Float[np.ndarray, " three"]:
    """The variance of the fast component, its error, and that of the scheme."""
    noise, trajectories, seed, backend = point
    fast = float(np.sqrt(RATES[0] / RATES[1]))
    rate = 2 * RATES[1] * fast
    implicit = backend == "julia"
    # Explicit steps of a tenth of the fast time, or implicit ones of two fast times.
    step = (2.0 if implicit else 0.1) / rate
    end = 20 / rate
    options: dict[str, Any] = {"solver": "Euler"}
    if implicit:
        options = {"solver": "ImplicitEM", "theta": 1.0}
    problem = SDEProblem(
        noisy,
        constant_noise,
        jnp.array([1.0, fast, 0.0]),
        0.0,
        end,
        args=(Robertson(dtype=float), jnp.asarray(noise)),
        noise="additive",
    )
    found = ensemble(
        problem,
        trajectories,
        key=jr.key(seed),
        backend=backend,
        dt=step,
        reduce=Moments(order=4),
        **options,
    ).reduced
    growth = (1 + rate * step) ** 2 - 1 if implicit else 1 - (1 - rate * step) ** 2
    error = found.variance_standard_error[0, 1]
    return np.array([found.variance[0, 1], error, noise**2 * step / growth])


@stiff_neural.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """The kinetics and the network, and sensitivities of implicit steps."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    units = (1.0, 3e-5, 1.0)
    for backend, found in findings.items():
        data = found.data
        for number, (name, unit) in enumerate(zip("ABC", units, strict=True)):
            label = f"{name}/3e-5" if unit < 1 else name
            left.semilogx(
                data["times"][1:],
                data["copied"][:, number] / unit,
                color=f"C{number}",
                label=f"{label}, network ({backend})",
                **mark(backend),
            )
        right.loglog(
            -data["products"],
            data["sensitivities"],
            color="C3",
            label=backend,
            **mark(backend),
        )
    data = next(iter(findings.values())).data
    for number, unit in enumerate(units):
        left.semilogx(
            data["times"], data["states"][:, number] / unit, color="k", lw=0.7
        )
    many = np.geomspace(-max(config.products) / 2, -2 * min(config.products), 80)
    right.loglog(many, (1 + many) ** -2, "k-", label="$(1 - z)^{-2}$")
    left.set_xlabel("time, s")
    left.set_ylabel("concentration (lines: the kinetics)")
    right.set_xlabel("$-z$")
    right.set_ylabel("sensitivity of an implicit step")
    for axes in (left, right):
        axes.legend(fontsize=7)
