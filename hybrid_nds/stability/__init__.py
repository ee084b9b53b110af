"""Stability of deterministic and stochastic dynamical systems."""

from ._fokker_planck import FokkerPlanck as FokkerPlanck, fokker_planck as fokker_planck
from ._lyapunov import lyapunov_spectrum as lyapunov_spectrum
from ._lyapunov_result import LyapunovSpectrum as LyapunovSpectrum
from ._matrix_measure import matrix_measure as matrix_measure
