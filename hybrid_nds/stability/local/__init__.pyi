from ._bifurcations import Bifurcation as Bifurcation
from ._continuation import Branch as Branch, continue_equilibria as continue_equilibria
from ._contraction import (
    ContractionRate as ContractionRate,
    contraction_rate as contraction_rate,
)
from ._equilibria import Equilibria as Equilibria, equilibria as equilibria
from ._jacobian_spectrum import (
    JacobianSpectrum as JacobianSpectrum,
    jacobian_spectrum as jacobian_spectrum,
)
from ._matrix_measure import (
    Norm as Norm,
    check_norm as check_norm,
    check_weight as check_weight,
    matrix_measure as matrix_measure,
)
from ._periodic_orbit import (
    PeriodicOrbit as PeriodicOrbit,
    periodic_orbit as periodic_orbit,
)
from ._stiffness import Stiffness as Stiffness, stiffness as stiffness
