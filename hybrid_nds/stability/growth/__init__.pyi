from ._finite_time import finite_time_exponents as finite_time_exponents
from ._lyapunov import lyapunov_spectrum as lyapunov_spectrum
from ._lyapunov_plan import (
    Sampling as Sampling,
    check_lyapunov_problem as check_lyapunov_problem,
    start_states as start_states,
    times_of as times_of,
)
from ._lyapunov_result import LyapunovSpectrum as LyapunovSpectrum
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
from ._moment_exponent import moment_exponent as moment_exponent
from ._moment_result import MomentExponent as MomentExponent
