"""Stability of deterministic and stochastic dynamical systems."""

from .growth import (
    LyapunovSpectrum as LyapunovSpectrum,
    MeanSquareAbscissa as MeanSquareAbscissa,
    MeanSquareFactor as MeanSquareFactor,
    MeanSquareRegion as MeanSquareRegion,
    MomentExponent as MomentExponent,
    finite_time_exponents as finite_time_exponents,
    lyapunov_spectrum as lyapunov_spectrum,
    mean_square_abscissa as mean_square_abscissa,
    mean_square_factor as mean_square_factor,
    mean_square_stability as mean_square_stability,
    moment_exponent as moment_exponent,
)
from .local import (
    Bifurcation as Bifurcation,
    Branch as Branch,
    ContractionRate as ContractionRate,
    Equilibria as Equilibria,
    JacobianSpectrum as JacobianSpectrum,
    PeriodicOrbit as PeriodicOrbit,
    Stiffness as Stiffness,
    continue_equilibria as continue_equilibria,
    contraction_rate as contraction_rate,
    equilibria as equilibria,
    jacobian_spectrum as jacobian_spectrum,
    matrix_measure as matrix_measure,
    periodic_orbit as periodic_orbit,
    stiffness as stiffness,
)
from .long_run import (
    ExitTime as ExitTime,
    FokkerPlanck as FokkerPlanck,
    FokkerPlanckPlane as FokkerPlanckPlane,
    InvariantLaw as InvariantLaw,
    MixingRate as MixingRate,
    fokker_planck as fokker_planck,
    fokker_planck_plane as fokker_planck_plane,
    invariant_law as invariant_law,
    mean_exit_time as mean_exit_time,
    mixing_rate as mixing_rate,
)
