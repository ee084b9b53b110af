"""Are two samples of one distribution? Tests at a stated level, with a stated power."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import scipy.stats as stats

from .._core import BAD, GOOD, QUIET, Along, DrawnResult, Panels, Records, check_level
from ._discrepancies import gaussian_kernel, median_distance, negative_distance
from ._permutation import divisions, pair_statistics, permutation_level
from ._samples import generator, normalized, thinned, two_samples

_LEAST = 20


@dataclasses.dataclass(frozen=True)
class LawShift:
    """A difference between distributions that a comparison should not miss.

    **Fields:** `mean`, a move of a component's mean, in its standard deviations;
    `variance`, a relative change of a component's variance. Zero leaves one out.
    """

    mean: float = 0.1
    variance: float = 0.0

    def __post_init__(self):
        for name in ("mean", "variance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"LawShift: `{name}` must be finite and not negative, got {value}."
                )
        if self.mean == self.variance == 0:
            raise ValueError("LawShift: `mean` or `variance` must be above zero.")


@dataclasses.dataclass(frozen=True)
class MomentInterval:
    """The difference of a moment between two distributions, with its Welch interval.

    **Fields:** the moment's name; its estimate in each sample; the `difference`, first
    less second; its `standard_error`; `low` and `high`, the interval that holds the
    true difference in all but `level / tests` of all comparisons.
    """

    name: str
    first: float
    second: float
    difference: float
    standard_error: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class LawTest:
    """One test of the comparison.

    **Fields:** its name, its statistic, its own p-value, and the p-value adjusted for
    the number of tests (Holm 1979).
    """

    name: str
    statistic: float
    p_value: float
    adjusted: float


@dataclasses.dataclass(frozen=True)
class LawComparison(DrawnResult):
    """Whether two samples can be of one distribution.

    **Fields:**

    - `level`: how often samples of one distribution are told apart, over all tests
        together.
    - `tests`: the tests, `intervals`: the moments they were made of.
    - `shift`, `power`: how often, at least, a distribution shifted so is told apart
        from this one by samples of these sizes: for the component where that is
        hardest.
    - `samples`: their sizes.
    - `same`: whether no test tells the distributions apart; False where a test has no
        number.
    - `undecided`: the tests without one, whose statistic is not a number.
    """

    level: float
    tests: Annotated[tuple[LawTest, ...], Records("test")]
    intervals: Annotated[tuple[MomentInterval, ...], Records("moment")]
    shift: LawShift
    power: float
    samples: Annotated[tuple[int, int], Along("sample_set")]

    @property
    def same(self) -> bool:
        """Whether no test tells the distributions apart at the level, and each had a
        number."""
        return bool(self.tests) and all(t.adjusted > self.level for t in self.tests)

    @property
    def undecided(self) -> tuple[LawTest, ...]:
        """The tests whose statistic or p-value is not a number."""
        return tuple(
            test
            for test in self.tests
            if math.isnan(test.statistic) or math.isnan(test.adjusted)
        )

    @property
    def worst(self) -> LawTest:
        """A test that is undecided, or that with the smallest adjusted p-value."""
        unclear = self.undecided
        return unclear[0] if unclear else min(self.tests, key=lambda t: t.adjusted)

    @property
    def _verdict(self) -> str:
        if self.same:
            return "not told apart"
        if any(test.adjusted <= self.level for test in self.tests):
            return "different"
        names = ", ".join(test.name for test in self.undecided)
        return f"not compared (no number from {names or 'any test'})"

    def summary(self) -> str:
        n, m = self.samples
        lines = [
            f"The distributions are {self._verdict} at level {self.level:g} ({n} "
            f"against {m} "
            f"samples, {len(self.tests)} tests, Holm).",
            f"A shift of {_shift_words(self.shift)} would be seen with probability "
            f"{self.power:.3f} or more.",
            f"{'moment':<24}{'first':>12}{'second':>12}{'difference':>13}  interval",
        ]
        for one in self.intervals:
            lines.append(
                f"{one.name:<24}{one.first:>12.5g}{one.second:>12.5g}"
                f"{one.difference:>13.3g}  [{one.low:.3g}, {one.high:.3g}]"
            )
        lines.append(f"{'test':<36}{'statistic':>12}{'p':>10}{'adjusted':>10}")
        for test in self.tests:
            lines.append(
                f"{test.name:<36}{test.statistic:>12.4g}{test.p_value:>10.3g}"
                f"{test.adjusted:>10.3g}"
            )
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        rows = len(self.intervals)
        axes = panels.subplots(size=(6.4, 1.2 + 0.34 * rows))
        for row, one in enumerate(self.intervals):
            color = GOOD if one.low <= 0 <= one.high else BAD
            ends = [one.low / one.standard_error, one.high / one.standard_error]
            axes.plot(ends, [row, row], color=color, linewidth=2.2)
            axes.plot(one.difference / one.standard_error, row, "o", color=color)
        axes.axvline(0, color=QUIET, linewidth=0.8)
        axes.set_yticks(range(rows), [one.name for one in self.intervals])
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlabel("difference, in standard errors")
        axes.set_title(f"Laws {self._verdict} at level {self.level:g}")


def compare_laws(
    a: Any,
    b: Any,
    *,
    level: float = 0.01,
    shift: LawShift | None = None,
    names: Sequence[str] | None = None,
    kernel_samples: int = 1000,
    permutations: int | None = None,
    seed: int = 0,
) -> LawComparison:
    """Test whether two samples are of one distribution.

    Welch's test on every mean, variance and covariance, Kolmogorov and Smirnov's on
    every component, and permutation tests of the energy distance and the maximum mean
    discrepancy, their p-values adjusted after Holm (1979): samples of one distribution
    are told apart with probability `level` at most (for variances and covariances as
    the samples grow: Welch's test of $(x-\\bar x)^2$ relies on the central limit).

    The power is that of Welch's test alone, at the level that Holm leaves the smallest
    p-value: a lower bound of what all tests see together.

    **Arguments:**

    - `a`, `b`: independent samples, shape `(n,)` or `(n, d)` and `(m,)` or `(m, d)`.
    - `level`: of all tests together, between 0 and 1.
    - `shift`: the [`LawShift`][hybrid_nds.measures.LawShift] to state the power for;
        by default a tenth of a standard deviation in the mean.
    - `names`: of the components, for the report.
    - `kernel_samples`: how many samples of each, at most, meet in the permutation
        tests, whose cost grows with their square.
    - `permutations`: how many; by default enough to reach the level Holm asks for.
    - `seed`: of the permutations.

    **Returns:** a [`LawComparison`][hybrid_nds.measures.LawComparison].

    **Raises:** `ValueError` or `TypeError`, naming the argument: fewer than 20
    samples, numbers that are not finite, a component without variation in either
    sample, too few permutations to ever reject.
    """
    caller = "compare_laws"
    first, second = two_samples(caller, a, b, _LEAST)
    check_level(caller, level)
    d = first.shape[1]
    labels = _component_names(caller, names, d)
    for sample, name in ((first, "a"), (second, "b")):
        still = np.ptp(sample, axis=0) == 0
        if np.any(still):
            raise ValueError(
                f"{caller}: `{name}` does not vary in {labels[int(np.argmax(still))]}; "
                "a constant has no distribution to test: compare it as a number, "
                "and leave the "
                "component out."
            )
    # Each component in a unit of its own about one centre, so that neither offset nor
    # unit costs digits.
    origins = [float(x) for x in first[len(first) // 2]]
    scaled = [normalized(first[:, [j]], second[:, [j]]) for j in range(d)]
    first, second = (np.concatenate([s[k] for s in scaled], axis=1) for k in (0, 1))
    moments = _moments(first, second, labels, [s[2] for s in scaled], origins)
    count = len(moments) + d + 2
    rejecting = math.ceil(count / level)
    if permutations is None:
        permutations = max(999, 2 * rejecting)
    elif not isinstance(permutations, int | np.integer) or permutations < rejecting:
        raise ValueError(
            f"{caller}: `permutations` must be at least {rejecting} for {count} tests "
            f"at level {level:g}, or no permutation test could ever reject; got "
            f"{permutations!r}."
        )
    raw: list[tuple[str, float, float]] = []
    intervals = []
    for moment in moments:
        interval, statistic, p_value = _welch(moment, level / count)
        intervals.append(interval)
        raw.append((f"Welch, {moment.name}", statistic, p_value))
    for j, label in enumerate(labels):
        found: Any = stats.ks_2samp(first[:, j], second[:, j])
        name = f"Kolmogorov-Smirnov, {label}"
        raw.append((name, float(found.statistic), float(found.pvalue)))
    raw += _permutation_tests(first, second, kernel_samples, permutations, seed)
    shift = LawShift() if shift is None else shift
    return LawComparison(
        level=level,
        tests=_adjusted(raw),
        intervals=tuple(intervals),
        shift=shift,
        power=_power(first, second, shift, level / count),
        samples=(len(first), len(second)),
    )


def _component_names(caller: str, names: Sequence[str] | None, d: int) -> list[str]:
    if names is None:
        return [f"y[{j}]" for j in range(d)] if d > 1 else ["y"]
    if isinstance(names, str) or len(names) != d:
        raise ValueError(f"{caller}: `names` must be {d} names, got {names!r}.")
    return [str(name) for name in names]


@dataclasses.dataclass(frozen=True)
class _Moment:
    """A moment as the mean of numbers, in units of 2**exponent about an origin."""

    name: str
    first: np.ndarray
    second: np.ndarray
    exponent: int
    origin: float = 0.0


def _moments(
    first: np.ndarray,
    second: np.ndarray,
    labels: Sequence[str],
    exponents: Sequence[int],
    origins: Sequence[float],
) -> list[_Moment]:
    """Each moment as the mean of something in both samples."""
    found = []
    # Scaled so that the mean of squares is the unbiased variance.
    centred = [
        (x - x.mean(axis=0)) * math.sqrt(len(x) / (len(x) - 1)) for x in (first, second)
    ]
    for j, label in enumerate(labels):
        pair = first[:, j], second[:, j]
        found.append(_Moment(f"mean of {label}", *pair, exponents[j], origins[j]))
    for j, label in enumerate(labels):
        one, other = (x[:, j] ** 2 for x in centred)
        name = f"variance of {label}"
        found.append(_Moment(name, one, other, 2 * exponents[j]))
    for j in range(len(labels)):
        for k in range(j):
            name = f"covariance of {labels[k]}, {labels[j]}"
            one, other = (x[:, j] * x[:, k] for x in centred)
            found.append(_Moment(name, one, other, exponents[j] + exponents[k]))
    return found


def _welch(moment: _Moment, level: float) -> tuple[MomentInterval, float, float]:
    """Welch's test of a moment: the interval, the statistic, the p-value."""
    x, y = moment.first, moment.second
    mean_x, mean_y = float(np.mean(x)), float(np.mean(y))
    # What rounding alone leaves of the spread of numbers of order one that are alike.
    rounding = 8 * np.finfo(float).eps * max(np.max(np.abs(x)), np.max(np.abs(y)))
    if max(np.ptp(x), np.ptp(y)) <= rounding:
        # As the squares of ±1: the moment has no sampling error, and Welch's quotient
        # is 0/0 or the quotient of two roundings.
        # Unbiased variances of equal squares differ by their factors n/(n-1) still.
        factor = (1 / len(x) + 1 / len(y)) * max(abs(mean_x), abs(mean_y))
        gap = mean_x - mean_y if abs(mean_x - mean_y) > factor else 0.0
        error, low, high = 0.0, gap, gap
        statistic = math.copysign(math.inf, gap) if gap else 0.0
        p_value = 0.0 if gap else 1.0
    else:
        test: Any = stats.ttest_ind(x, y, equal_var=False)
        low, high = test.confidence_interval(1 - level)
        gap = mean_x - mean_y
        error = math.sqrt(np.var(x, ddof=1) / len(x) + np.var(y, ddof=1) / len(y))
        statistic, p_value = float(test.statistic), float(test.pvalue)

    def scaled(value: float) -> float:
        return float(np.ldexp(value, moment.exponent))

    interval = MomentInterval(
        moment.name,
        moment.origin + scaled(mean_x),
        moment.origin + scaled(mean_y),
        *map(scaled, (gap, error, float(low), float(high))),
    )
    return interval, statistic, p_value


def _permutation_tests(
    first: np.ndarray, second: np.ndarray, most: int, permutations: int, seed: int
) -> list[tuple[str, float, float]]:
    random = generator("compare_laws", seed)
    x, y = thinned(first, most), thinned(second, most)
    pooled = np.concatenate([x, y])
    # In units of each component's spread, lest the largest alone decide.
    pooled = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    ways = divisions(len(x), len(y), permutations, random)
    width = median_distance(pooled[: len(x)], pooled[len(x) :])

    found = []
    for name, similarity in (
        ("energy distance", negative_distance),
        ("maximum mean discrepancy", gaussian_kernel(width)),
    ):
        values = pair_statistics(pooled, len(x), similarity, ways)
        found.append((name, float(values[0]), permutation_level(values)))
    return found


def _adjusted(raw: Sequence[tuple[str, float, float]]) -> tuple[LawTest, ...]:
    """Holm's step-down adjustment."""
    count = len(raw)
    order = sorted(range(count), key=lambda i: (math.isnan(raw[i][2]), raw[i][2]))
    adjusted, largest = [math.nan] * count, 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * raw[i][2]))
        # What has no number stays without one; it counts among the tests all the same.
        if not (math.isnan(raw[i][1]) or math.isnan(raw[i][2])):
            adjusted[i] = largest
    return tuple(LawTest(*row, value) for row, value in zip(raw, adjusted, strict=True))


def _power(
    first: np.ndarray, second: np.ndarray, shift: LawShift, level: float
) -> float:
    """The least power of Welch's tests against the shift, over the components."""
    n, m = len(first), len(second)
    powers = []
    for x, y in zip(first.T, second.T, strict=True):
        pooled = np.concatenate([x - x.mean(), y - y.mean()])
        deviation = float(np.std(pooled))
        cases = []
        if shift.mean > 0:
            cases.append((shift.mean * deviation, deviation))
        if shift.variance > 0:
            squares = pooled**2
            cases.append((shift.variance * deviation**2, float(np.std(squares))))
        for difference, spread in cases:
            error = spread * math.sqrt(1 / n + 1 / m)
            centre = difference / error if error else math.inf
            powers.append(_two_sided_power(centre, n + m - 2, level))
    return min(powers)


def _two_sided_power(centre: float, freedom: int, level: float) -> float:
    """How often |T| exceeds its quantile, T noncentral t (Student's with a shift)."""
    limit = stats.t.isf(level / 2, freedom)
    if centre > limit + 8:
        return 1.0  # where the noncentral distribution function loses its digits
    return float(stats.nct.sf(limit, freedom, centre))


def _shift_words(shift: LawShift) -> str:
    lines = []
    if shift.mean:
        lines.append(f"{shift.mean:g} standard deviations in a mean")
    if shift.variance:
        lines.append(f"{shift.variance:.0%} in a variance")
    return " or of ".join(lines)
