"""Attention with noise on the circle: when tokens cluster at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.optimize
import scipy.special
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..models import CircleAttention
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile
from ._marks import mark
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Shalova & Schlichting 2024, Solutions of stationary McKean–Vlasov equation on a "
    "high-dimensional sphere and other Riemannian manifolds; Sakaguchi 1988, "
    "Cooperative phenomena in coupled oscillator systems under external fields"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Tokens, temperature, couplings as shares of the threshold, sizes of samples."""

    tokens: int = 64
    temperature: float = 1.0
    inverse_temperature: float = 2.0
    shares: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6)
    couplings: tuple[float, ...] = (3.0, 4.0, 6.0)
    step: float = 1 / 32
    time: float = 4.0
    draws: int = 1000
    seed: int = 0


def order(y: Float[Array, " tokens"]) -> Float[Array, ""]:
    """$r^2$, the square of the length of the mean of all tokens."""
    return jnp.mean(jnp.cos(y)) ** 2 + jnp.mean(jnp.sin(y)) ** 2


def threshold(beta: float, temperature: float) -> float:
    """$K = \\tau\\beta/I_1(\\beta)$."""
    return temperature * beta / float(scipy.special.iv(1, beta))


def consistent(coupling: float, temperature: float) -> float:
    """The positive solution of $r = I_1(Kr/\\tau)/I_0(Kr/\\tau)$ for $K > 2\\tau$."""

    def excess(r: float) -> float:
        x = coupling * r / temperature
        return float(scipy.special.ive(1, x) / scipy.special.ive(0, x)) - r

    return scipy.optimize.root_scalar(excess, bracket=(1e-3, 1.0), xtol=1e-14).root


@study(
    title="Noisy attention and the onset of clusters",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(tokens=32, shares=(0.0, 0.4), couplings=(4.0,), draws=1000),
    paper=Config(tokens=512, draws=4000, time=8.0, step=1 / 64),
)
def noisy_attention(config: Config, backend: str, sweep: Sweep) -> Findings:
    """How much noise keeps tokens from clustering?

    In \\(d\\theta_i = \\tfrac KN\\sum_je^{\\beta\\cos(\\theta_j-\\theta_i)}
    \\sin(\\theta_j-\\theta_i)\\,dt + \\sqrt{2\\tau}\\,dW_i\\) the uniform distribution
    is stable below \\(K_c = \\tau\\beta/I_1(\\beta)\\). Below it \\(N\\) tokens
    fluctuate with \\(N\\,E\\,r^2 = (1 - K/K_c)^{-1}\\), by the linear equation of their
    mean, so that its inverse falls to zero at the threshold: a line that is measured
    where everything is stable. Without \\(\\beta\\) tokens above the threshold
    \\(2\\tau\\) settle where \\(r = I_1(Kr/\\tau)/I_0(Kr/\\tau)\\).
    """
    n, tau, beta = config.tokens, config.temperature, config.inverse_temperature
    critical = threshold(beta, tau)
    couplings = np.array(config.shares) * critical
    starts = [(K, beta, True) for K in couplings.tolist()]
    starts += [(K, 0.0, False) for K in config.couplings]
    sizes = (n, tau, config.time, config.step, config.draws, config.seed)
    found = sweep(
        _mean_square,
        [(*start, *sizes, number, backend) for number, start in enumerate(starts)],
    )
    uniform, ordered = np.split(np.array(found), [len(couplings)])
    squares, errors = uniform.T
    inverse = 1 / (n * squares)
    inverse_error = inverse * errors / squares
    slope, level = np.polyfit(couplings, inverse, 1, w=1 / inverse_error)
    design = np.stack([couplings, np.ones_like(couplings)], axis=1)
    weighted = design / inverse_error[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    root = -level / slope
    to_root = np.array([-root, -1.0]) / slope
    root_error = float(np.sqrt(to_root @ covariance @ to_root))
    lengths = np.sqrt(ordered[:, 0])
    length_errors = ordered[:, 1] / (2 * lengths)
    theory = np.array([consistent(K, tau) for K in config.couplings])
    off = np.abs(lengths - theory) - normal_quantile(len(theory)) * length_errors
    worst = int(np.argmax(off))
    return Findings(
        claims=(
            Claim(
                "the uniform distribution loses stability at this coupling",
                expected=critical,
                source="Shalova & Schlichting 2024: τβ/I₁(β), the first Fourier mode",
                measured=root,
                error=root_error,
                tolerance=normal_quantile() * root_error
                + critical * (4 / n + config.step),
                reason="normal quantile, terms in 1/N of a finite number of tokens, "
                "and Euler's steps",
                level=LEVEL,
            ),
            Claim(
                "without β the order is that of Bessel functions, largest distance "
                "beyond sampling",
                expected=0.0,
                source="Sakaguchi 1988, equation 9",
                measured=float(off[worst]),
                error=float(length_errors[worst]),
                tolerance=2 / n + config.step,
                reason="terms in 1/N of a finite number of tokens, and Euler's steps",
                relation="≤",
                level=LEVEL,
            ),
        ),
        data={
            "coupling": couplings,
            "inverse": inverse,
            "inverse_error": inverse_error,
            "ordered": np.array(config.couplings),
            "lengths": lengths,
            "length_errors": length_errors,
        },
    )


def _mean_square(point: tuple[Any, ...]) -> Float[np.ndarray, " two"]:
    """The mean of $r^2$ at the end, from anywhere or from one place, and its error."""
    K, beta, anywhere, n, tau, time, step, draws, seed, number, backend = point
    key, start = jr.split(jr.fold_in(jr.key(seed), number))
    found = ensemble(
        CircleAttention(K, beta, tau, dtype=float).problem(jnp.zeros(n), 0.0, time),
        draws,
        key=key,
        backend=backend,
        solver=EULER[backend],
        dt=step,
        initial=jr.uniform(start, (draws, n), maxval=2 * np.pi) if anywhere else None,
        reduce=Moments(of=order),
    ).reduced
    return np.array([found.mean[0], found.standard_error[0]])


@noisy_attention.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Fluctuations below the threshold, and the order above it."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    tau, beta = config.temperature, config.inverse_temperature
    critical = threshold(beta, tau)
    left.plot([0.0, critical], [1.0, 0.0], "k--", label="$1 - K/K_c$")
    many = np.linspace(2.02 * tau, 1.1 * max(config.couplings), 100)
    curve = [consistent(K, tau) for K in many]
    right.plot([0.0, 2 * tau, *many], [0.0, 0.0, *curve], "k-", label="theory")
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        left.errorbar(
            data["coupling"],
            data["inverse"],
            yerr=data["inverse_error"],
            color="C0",
            label=backend,
            **style,
        )
        right.errorbar(
            data["ordered"],
            data["lengths"],
            yerr=data["length_errors"],
            color="C1",
            label=backend,
            **style,
        )
    left.set_xlabel("coupling $K$")
    left.set_ylabel("$(N\\,E\\,r^2)^{-1}$")
    right.set_xlabel("coupling $K$, $\\beta = 0$")
    right.set_ylabel("order $r$")
    for axes in (left, right):
        axes.legend(fontsize=7)
