"""Batch means: time averages of correlated series with their confidence intervals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.stats
from jaxtyping import Float

from ._correlation import correlation_time

_BATCHES = 10
_TARGET = 32
# Normal batches, 32 of them, have 10 ± 3; two of equal size alone have two.
_CARRIERS = 4.0
_ALARM = 1e-3
_ROUND_OFF = 1e4


@dataclasses.dataclass(frozen=True)
class BatchMeans:
    """Time averages with their errors.

    **Fields:** `mean`, shape `(k,)`; `standard_error`; `half_width` of the interval;
    `batches`, the means of each batch, shape `(batches, k)`; `length` of a batch;
    `correlation`, the integrated autocorrelation time of the slowest, both in samples;
    `drift`, for each the difference of the two halves over what may be by chance;
    `parted`, for each the spread of the chains over what may be by chance, zero where
    that cannot be told; `carriers`, about how many batches carry the spread of each,
    a third of them where they are normal.
    """

    mean: np.ndarray
    standard_error: np.ndarray
    half_width: np.ndarray
    batches: np.ndarray
    length: int
    correlation: float
    drift: np.ndarray
    parted: np.ndarray
    carriers: np.ndarray

    @property
    def bursts(self) -> np.ndarray:
        """Which means rest on so few batches that their errors are not known."""
        return self.carriers < min(_CARRIERS, len(self.batches) / 8)

    @property
    def enough(self) -> bool:
        """Whether there are batches enough to judge by."""
        return len(self.batches) >= _BATCHES


def batch_means(
    samples: Float[np.ndarray, "chains samples k"], level: float
) -> BatchMeans:
    """The means over time and chains, with errors by batch means.

    There are about 32 batches in all, or fewer where ten autocorrelation times ask for
    longer ones, so that their means are nearly independent. Intervals are Student's,
    wider by twice Johnson's correction for skewness (1978): where growth comes in
    bursts, the mean of few of them is skewed too. None of this knows of bursts that the
    series does not hold.
    Long batches suit growth along an orbit, of which much is taken back soon after:
    short ones would count that as error (Flegal & Jones 2010).
    """
    chains, count, k = samples.shape
    correlation = max(correlation_time(samples[:, :, j]) for j in range(k))
    length = max(count // math.ceil(_TARGET / chains), math.ceil(10 * correlation), 1)
    length = min(length, count if chains > 1 else count // 2)
    per_chain = count // length
    kept = samples[:, count - per_chain * length :]
    batches = kept.reshape(chains * per_chain, length, k).mean(axis=1)
    number = len(batches)
    error = batches.std(axis=0, ddof=1) / math.sqrt(number)
    quantile = float(scipy.stats.t.ppf((1 + level) / 2, number - 1))
    mean = samples.mean(axis=(0, 1))
    half = count // 2
    apart = np.abs(
        samples[:, :half].mean(axis=(0, 1)) - samples[:, -half:].mean(axis=(0, 1))
    )
    # Each half is a mean over half as much; round-off is no drift.
    alarm = float(scipy.stats.t.ppf(1 - _ALARM / (2 * k), number - 1))
    floor = _ROUND_OFF * np.finfo(float).eps * np.max(np.abs(samples))
    drift = apart / (alarm * 2 * error + floor + np.finfo(float).tiny)
    # Where they drift, that is the least the error can be.
    error = np.where(drift > 1, np.maximum(error, apart / 2), error)
    half_width = quantile * error + _skewed(
        samples, batches, correlation, error, quantile, floor
    )
    parted = _parted(samples, correlation, floor)
    if np.any(parted > 1):
        # Where chains part, each is one observation.
        spread = samples.mean(axis=1).std(axis=0, ddof=1) / math.sqrt(chains)
        error = np.where(parted > 1, np.maximum(error, spread), error)
        few = float(scipy.stats.t.ppf((1 + level) / 2, chains - 1))
        half_width = np.where(parted > 1, few * error, half_width)
    return BatchMeans(
        mean,
        error,
        half_width,
        batches,
        length,
        correlation,
        drift,
        parted,
        _carriers(batches, floor),
    )


def _skewed(
    samples: np.ndarray,
    batches: np.ndarray,
    correlation: float,
    error: np.ndarray,
    quantile: float,
    floor: float,
) -> np.ndarray:
    """By how much the skewness of a mean moves one end of an interval (Johnson 1978,
    Journal of the American Statistical Association 73, equation 2.4): both ends are
    moved, for a long tail may be unseen.

    The skewness of a mean of $n$ independent values is theirs over $\\sqrt n$: of the
    batches, or of as many samples as are independent, whichever is larger. Twice of it
    counts: few values of a long-tailed distribution show about half of its skewness,
    which rests on rare ones.
    """
    chains, count, k = samples.shape
    independent = chains * count / correlation
    of_samples = _skewness(samples.reshape(-1, k), floor) / math.sqrt(independent)
    of_batches = _skewness(batches, floor) / math.sqrt(len(batches))
    skewness = 2 * np.maximum(of_samples, of_batches)
    return error * skewness * (1 + 2 * quantile**2) / 6


def _skewness(values: np.ndarray, floor: float) -> np.ndarray:
    """The size of the skewness of each column, without the bias of few values (Joanes &
    Gill 1998), zero where they vary by round-off alone."""
    number = len(values)
    away = values - values.mean(axis=0)
    spread = away.std(axis=0)
    known = (spread > floor) & (number > 2)
    skewness = np.mean((away / np.where(known, spread, 1.0)) ** 3, axis=0)
    skewness *= math.sqrt(number * (number - 1)) / max(number - 2, 1)
    return np.where(known, np.abs(skewness), 0.0)


def _carriers(batches: np.ndarray, floor: float) -> np.ndarray:
    """How many batches carry the sum of squares, as of Kish's effective number."""
    squares = (batches - batches.mean(axis=0)) ** 2
    size = squares.sum(axis=0)
    known = size > len(batches) * floor**2
    shares = squares / np.where(known, size, 1.0)
    fourth = np.where(known, np.sum(shares**2, axis=0), 1.0)
    return np.where(known, 1 / fourth, len(batches))


def _parted(samples: np.ndarray, correlation: float, floor: float) -> np.ndarray:
    """Whether chains differ by more than their own quarters do: the statistic of a
    one-way analysis of variance over its quantile."""
    chains, count, k = samples.shape
    quarter = count // 4
    if chains == 1 or quarter < 10 * correlation:
        return np.zeros(k)
    quarters = samples[:, : 4 * quarter].reshape(chains, 4, quarter, k).mean(axis=2)
    within = quarters.var(axis=1, ddof=1).mean(axis=0)
    between = 4 * quarters.mean(axis=1).var(axis=0, ddof=1)
    limit = float(scipy.stats.f.isf(_ALARM / k, chains - 1, 3 * chains))
    return between / (limit * (within + floor**2 + np.finfo(float).tiny))


def running_means(
    samples: Float[np.ndarray, "chains samples k"],
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the chains of the first so many samples.

    **Returns:** the numbers of samples, at most 200, evenly spread in their logarithm,
    and the means, shape `(points, k)`.
    """
    count = samples.shape[1]
    numbers = np.unique(np.geomspace(1, count, min(200, count)).round().astype(int))
    sums = np.cumsum(samples.mean(axis=0), axis=0)
    return numbers, sums[numbers - 1] / numbers[:, None]
