from ._exit_time import ExitTime as ExitTime, mean_exit_time as mean_exit_time
from ._fokker_planck import FokkerPlanck as FokkerPlanck, fokker_planck as fokker_planck
from ._fokker_planck_plane import (
    FokkerPlanckPlane as FokkerPlanckPlane,
    fokker_planck_plane as fokker_planck_plane,
)
from ._invariant_law import invariant_law as invariant_law
from ._invariant_law_result import InvariantLaw as InvariantLaw
from ._mixing_rate import mixing_rate as mixing_rate
from ._mixing_rate_result import MixingRate as MixingRate
