"""How fast a flow forgets where it started."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.stats
from jaxtyping import Float, PRNGKeyArray, PyTree

from ..analysis import AnalysisError, AnalysisResult
from ..problem import ODEProblem
from ..solution import Provenance
from ..stochastic_problem import SDEProblem
from ._autocorrelation import Decay, fit_decay
from ._chain_statistics import effective_samples, r_hat_limit, split_r_hat
from ._invariant_law import run_chains
from ._lyapunov import precision_of
from ._lyapunov_plan import check_lyapunov_problem, check_positive
from ._sampling import SamplePlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OWNER = "mixing_rate"
_LEAST = 100
_CHAINS = 8
_SHOWN = 12
# So many relaxation times forget a start, and make a chain.
_FORGET = 3.0
_LONG = 20.0


@dataclasses.dataclass(frozen=True, eq=False)
class MixingRate(AnalysisResult):
    """The rates at which observables forget.

    **Fields:** of `k` observables, each of shape `(k,)`:

    - `rates`, in one over the unit of time, their `standard_errors`, and the intervals
        `low` to `high` that hold each with probability `level`.
    - `amplitudes`: what share of the variance decays at this rate.
    - `windows`: the lags that the exponential was fitted on, shape `(k, 2)`.
    - `correlation_times`: $1 + 2\\sum\\rho$, in the unit of time.
    - `effective_samples`, `r_hat`: as of
        [`InvariantLaw`][hybrid_nds.stability.InvariantLaw].
    - `lags`, `autocorrelation`, `autocorrelation_errors`: shapes `(lags,)`,
        `(lags, k)`.
    - `converged`: whether each autocorrelation ends in one exponential, as far as it
        stands out of its errors. Where not, `notes` say why.
    - `settings`, `provenance`.
    """

    rates: Float[np.ndarray, " k"]
    standard_errors: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    level: float
    amplitudes: Float[np.ndarray, " k"]
    windows: Float[np.ndarray, "k 2"]
    correlation_times: Float[np.ndarray, " k"]
    effective_samples: Float[np.ndarray, " k"]
    r_hat: Float[np.ndarray, " k"]
    lags: Float[np.ndarray, " lags"]
    autocorrelation: Float[np.ndarray, "lags k"]
    autocorrelation_errors: Float[np.ndarray, "lags k"]
    converged: bool
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    provenance: Provenance

    def variables(self) -> Mapping[str, tuple[tuple[str, ...], Any]]:
        each, traced = ("observable",), ("lag", "observable")
        return {
            "rates": (each, self.rates),
            "standard_errors": (each, self.standard_errors),
            "low": (each, self.low),
            "high": (each, self.high),
            "level": ((), self.level),
            "amplitudes": (each, self.amplitudes),
            "windows": (("observable", "end"), self.windows),
            "correlation_times": (each, self.correlation_times),
            "effective_samples": (each, self.effective_samples),
            "r_hat": (each, self.r_hat),
            "lags": (("lag",), self.lags),
            "autocorrelation": (traced, self.autocorrelation),
            "autocorrelation_errors": (traced, self.autocorrelation_errors),
            "converged": ((), self.converged),
        }

    def summary(self) -> str:
        where, given = self.provenance, self.settings
        k = len(self.rates)
        lines = [
            f"Mixing rate of {k} observable{'s' if k > 1 else ''}, {where.solver} on "
            f"{where.backend}, {given['chains']} chains over a time of "
            f"{given['time']:g} after {given['transient']:g}"
        ]
        if not self.converged:
            lines += ["NOT CONVERGED:", *(f"  {note}" for note in self.notes)]
        lines.append(
            f"{'rate':>12}{'± error':>10}   {self.level:.4g} interval, fitted on lags"
        )
        for i in range(min(k, _SHOWN)):
            lines.append(
                f"{self.rates[i]:>12.6g}{self.standard_errors[i]:>10.2g}   "
                f"[{self.low[i]:.6g}, {self.high[i]:.6g}], {self.windows[i, 0]:.4g} to "
                f"{self.windows[i, 1]:.4g}; {self.effective_samples[i]:.0f} effective "
                f"samples, R̂ {self.r_hat[i]:.4f}"
            )
        if k > _SHOWN:
            lines.append(f"{f'… {k - _SHOWN} more':>12}")
        return "\n".join(lines)

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        end = 0.0
        for i in range(min(len(self.rates), 6)):
            last = float(self.windows[i, 1]) or 20 * float(self.lags[1])
            shown = self.lags <= 1.6 * last
            end = max(end, 1.6 * last)
            line = axes.errorbar(
                self.lags[shown],
                self.autocorrelation[shown, i],
                self.autocorrelation_errors[shown, i],
                fmt=".",
                markersize=3,
                linewidth=0.7,
                errorevery=max(1, int(shown.sum()) // 40),
                label=f"observable {i}",
            )
            if self.rates[i] > 0:
                over = self.windows[i]
                axes.plot(
                    over,
                    self.amplitudes[i] * np.exp(-self.rates[i] * over),
                    color="k",
                    linewidth=1.2,
                    label=f"rate {self.rates[i]:.4g} ± {self.standard_errors[i]:.1g}",
                    zorder=line.lines[0].get_zorder() + 1,
                )
        axes.set_yscale("log")
        axes.set_ylim(0.01, 1.3)
        axes.set_xlim(0, end)
        axes.set_xlabel("lag")
        verdict = "" if self.converged else ": NOT CONVERGED"
        axes.set_ylabel("autocorrelation")
        axes.set_title(f"decay of correlations{verdict}", fontsize=10, loc="left")
        axes.legend(frameon=False, fontsize=8)


def mixing_rate(
    problem: SDEProblem | ODEProblem,
    observable: Callable[[PyTree], Any] | None = None,
    *,
    key: PRNGKeyArray,
    backend: Literal["diffrax", "julia"] = "diffrax",
    solver: Any = None,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    time: float | None = None,
    transient: float | None = None,
    sampling: float | None = None,
    chains: int = 64,
    initial: Any = None,
    level: float = 0.95,
    standard_error: float | None = None,
    threads: int | None = None,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> MixingRate:
    """The rate at which the autocorrelation of an observable decays in the end.

    In the invariant law
    $\\rho(t) = \\mathrm{Corr}(\\varphi(y_0), \\varphi(y_t)) \\sim a\\,e^{-\\lambda t}$;
    for a reversible flow $\\rho(t) = \\sum_i a_i e^{-\\lambda_i t}$ with
    $a_i \\ge 0$ and $\\lambda_i$ the eigenvalues of the generator, so that $\\lambda$
    is no less than the spectral gap, and the gap itself where $\\varphi$ has a share in
    the slowest eigenfunction (Pavliotis 2014, sections 4.3 and 4.6). Errors are the
    jackknife's over the chains.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem], or an
        [`ODEProblem`][hybrid_nds.ODEProblem] with a chaotic attractor, whose fields do
        not depend on time.
    - `observable`: a function of one state that returns arrays; by default the state.
    - `key`: a JAX random key, for the noise and for `initial`.
    - `backend`, `solver`, `dt`, `rtol`, `atol`, `threads`: as for
        [`ensemble`][hybrid_nds.ensemble].
    - `time`: how long each chain is observed; twenty relaxation times or more; by
        default what the transient leaves of the span of `problem`.
    - `transient`: how long each runs before; by default a tenth of all.
    - `sampling`: the time between samples, whole steps of `dt`; several in each
        relaxation time; by default a ten-thousandth of `time`.
    - `chains`: how many, at least 8.
    - `initial`: where they start, as for [`ensemble`][hybrid_nds.ensemble]; by default
        all at `problem.y0`.
    - `level`: of the intervals.
    - `standard_error`: the largest standard error of a rate that will do.
    - `progress`: whether to show progress.
    - `save`: a file to keep progress in: a run that was cut off goes on from there, to
        the same result to the last bit.

    **Returns:** a [`MixingRate`][hybrid_nds.stability.MixingRate]; look at its
    `converged`.

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] for chains that diverge, an
    observable that does not vary, and where `standard_error` was not reached, with the
    result there is.
    """
    check_lyapunov_problem(_OWNER, problem)
    if not 0 < level < 1:
        raise ValueError(f"{_OWNER}: `level` must lie between 0 and 1, got {level!r}.")
    if standard_error is not None:
        standard_error = check_positive(_OWNER, "standard_error", standard_error)
    if isinstance(chains, int) and 0 < chains < _CHAINS:
        raise ValueError(
            f"{_OWNER}: `chains` must be {_CHAINS} or more, since errors come from "
            f"their disagreement, got {chains}."
        )
    with precision_of(problem):
        found, plan, _ = run_chains(
            _OWNER,
            problem,
            observable=observable,
            key=key,
            backend=backend,
            options={"solver": solver, "rtol": rtol, "atol": atol, "threads": threads},
            dt=dt,
            time=time,
            transient=transient,
            sampling=sampling,
            chains=chains,
            initial=initial,
            check_step=False,
            progress=progress,
            save=save,
            least=_LEAST,
        )
    result = _rates(found.values, plan, level, found.provenance, found.runner)
    worst = float(np.max(result.standard_errors))
    if standard_error is not None and not worst <= standard_error:
        more = (
            f"about {math.ceil((worst / standard_error) ** 2)} times the `chains` "
            "would do"
            if math.isfinite(worst)
            else "there is no fit to go by"
        )
        raise AnalysisError(
            f"{_OWNER}: the largest standard error is {worst:.2g}, and "
            f"{standard_error:.2g} was asked for: {more}. What there is, is in the "
            "`result` of this error."
            + "".join(f" Beside, {note}" for note in result.notes),
            result,
        )
    return result


def _rates(
    values: Float[np.ndarray, "chains samples k"],
    plan: SamplePlan,
    level: float,
    provenance: Provenance,
    runner: str,
) -> MixingRate:
    chains, _, k = values.shape
    h = plan.interval
    decays = [fit_decay(values[:, :, i]) for i in range(k)]
    still = [i for i, one in enumerate(decays) if one.fault == "still"]
    if still:
        raise AnalysisError(
            f"{_OWNER}: observable {still[0]} does not vary over the chains, and has "
            "no autocorrelation; take another `observable`."
        )
    rates = np.array([one.rate / h for one in decays])
    errors = np.array([one.rate_error / h for one in decays])
    half = errors * float(scipy.stats.t.ppf((1 + level) / 2, chains - 1))
    r_hat = np.array([split_r_hat(values[:, :, i]) for i in range(k)])
    notes = tuple(
        note
        for i in range(k)
        for note in _notes(
            i,
            decays[i],
            float(rates[i]),
            float(r_hat[i]),
            r_hat_limit(values[:, :, i]),
            plan,
        )
    )
    return MixingRate(
        rates=rates,
        standard_errors=errors,
        low=rates - half,
        high=rates + half,
        level=level,
        amplitudes=np.array([one.amplitude for one in decays]),
        windows=h * np.array([(one.first, one.last) for one in decays], float),
        correlation_times=h * np.array([one.time for one in decays]),
        effective_samples=np.array(
            [effective_samples(values[:, :, i]) for i in range(k)]
        ),
        r_hat=r_hat,
        lags=h * np.arange(len(decays[0].correlation)),
        autocorrelation=np.stack([one.correlation for one in decays], axis=1),
        autocorrelation_errors=np.stack([one.errors for one in decays], axis=1),
        converged=not notes,
        notes=notes,
        settings=plan.settings | {"runner": runner},
        provenance=provenance,
    )


def _notes(
    index: int, one: Decay, rate: float, r_hat: float, limit: float, plan: SamplePlan
) -> list[str]:
    which = f"observable {index}: "
    notes = []
    if one.fault == "oscillates":
        notes.append(
            f"{which}its autocorrelation oscillates, and is no sum of decaying "
            "exponentials; take an `observable` that does not, such as the square of "
            "an amplitude or an energy."
        )
    elif one.fault == "coarse":
        notes.append(
            f"{which}its autocorrelation is above its errors for {one.last} samples "
            "alone; take a shorter `sampling`, or more `chains`."
        )
    elif one.fault == "bent":
        notes.append(
            f"{which}its autocorrelation is no single exponential up to where errors "
            "drown it, and the rate may be too large; give more `chains` or `time`, or "
            "an `observable` closer to the slowest motion."
        )
    if r_hat > limit:
        notes.append(
            f"{which}the chains disagree on its law (R̂ = {r_hat:.4g}, wanted below "
            f"{limit:.4g}); give a longer `time` and `transient`."
        )
    if rate * plan.counted * plan.interval < _LONG:
        notes.append(
            f"{which}the time holds {rate * plan.counted * plan.interval:.2g} "
            f"relaxation times, of {_LONG:g} needed; give a longer `time`."
        )
    if rate * plan.left_out * plan.interval < _FORGET:
        notes.append(
            f"{which}the transient holds "
            f"{rate * plan.left_out * plan.interval:.2g} relaxation times, of "
            f"{_FORGET:g} needed to forget the start; give a longer `transient`."
        )
    return notes
