"""Finite steps, depths, widths and numbers of particles against their limits."""

from ._chaos import propagation_of_chaos as propagation_of_chaos
from ._estimate import OrderEstimate as OrderEstimate, fit_order as fit_order
from ._runs import path_solver as path_solver
from ._scaling import (
    Scaling as Scaling,
    depth_scaling as depth_scaling,
    width_scaling as width_scaling,
)
from ._strong import strong_order as strong_order
from ._weak import weak_order as weak_order
from ._work_precision import work_precision as work_precision
from ._work_precision_result import (
    WorkPrecision as WorkPrecision,
    WorkRow as WorkRow,
)
