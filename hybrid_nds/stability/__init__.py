"""Stability of deterministic and stochastic dynamical systems."""

from ._bifurcations import Bifurcation as Bifurcation
from ._continuation import Branch as Branch, continue_equilibria as continue_equilibria
from ._contraction import (
    ContractionRate as ContractionRate,
    contraction_rate as contraction_rate,
)
from ._equilibria import Equilibria as Equilibria, equilibria as equilibria
from ._exit_time import ExitTime as ExitTime, mean_exit_time as mean_exit_time
from ._fokker_planck import FokkerPlanck as FokkerPlanck, fokker_planck as fokker_planck
from ._invariant_law import invariant_law as invariant_law
from ._invariant_law_result import InvariantLaw as InvariantLaw
from ._jacobian_spectrum import (
    JacobianSpectrum as JacobianSpectrum,
    jacobian_spectrum as jacobian_spectrum,
)
from ._lyapunov import lyapunov_spectrum as lyapunov_spectrum
from ._lyapunov_result import LyapunovSpectrum as LyapunovSpectrum
from ._matrix_measure import matrix_measure as matrix_measure
from ._mean_square import (
    MeanSquareAbscissa as MeanSquareAbscissa,
    MeanSquareFactor as MeanSquareFactor,
    mean_square_abscissa as mean_square_abscissa,
    mean_square_factor as mean_square_factor,
)
from ._mean_square_region import (
    MeanSquareRegion as MeanSquareRegion,
    mean_square_stability as mean_square_stability,
)
from ._mixing_rate import mixing_rate as mixing_rate
from ._mixing_rate_result import MixingRate as MixingRate
from ._moment_exponent import moment_exponent as moment_exponent
from ._moment_result import MomentExponent as MomentExponent
from ._periodic_orbit import (
    PeriodicOrbit as PeriodicOrbit,
    periodic_orbit as periodic_orbit,
)
from ._stiffness import Stiffness as Stiffness, stiffness as stiffness
