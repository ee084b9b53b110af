"""Training of continuous models: losses, checkpoints, history."""

from ._fit import fit as fit
from ._history import History as History
from ._laws import (
    EvidenceLoss as EvidenceLoss,
    LawLoss as LawLoss,
    NegativeLogLikelihood as NegativeLogLikelihood,
)
from ._losses import Loss as Loss, WeightedSum as WeightedSum
from ._lyapunov import LyapunovPenalty as LyapunovPenalty
from ._penalties import (
    ContractionPenalty as ContractionPenalty,
    SpectralAbscissaPenalty as SpectralAbscissaPenalty,
)
from ._result import Fit as Fit, TrainingError as TrainingError
from ._shooting import (
    GrowingHorizon as GrowingHorizon,
    MultipleShooting as MultipleShooting,
    ShootingModel as ShootingModel,
)
from ._trajectories import TrajectoryLoss as TrajectoryLoss
