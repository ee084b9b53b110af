"""Distances between distributions known by samples, and tests of whether two are
one."""

from ._compare import (
    LawComparison as LawComparison,
    LawShift as LawShift,
    LawTest as LawTest,
    MomentInterval as MomentInterval,
    compare_laws as compare_laws,
)
from ._differentiable import (
    discrepancy_statistic as discrepancy_statistic,
    energy_statistic as energy_statistic,
    sinkhorn_statistic as sinkhorn_statistic,
)
from ._discrepancies import (
    energy_distance as energy_distance,
    maximum_mean_discrepancy as maximum_mean_discrepancy,
)
from ._distance import Distance as Distance
from ._transport import (
    gaussian_wasserstein as gaussian_wasserstein,
    sinkhorn_divergence as sinkhorn_divergence,
    sliced_wasserstein as sliced_wasserstein,
    wasserstein as wasserstein,
)
