"""Training of continuous models: losses, checkpoints, history."""

from ._fit import fit as fit
from ._history import History as History
from ._losses import Loss as Loss, WeightedSum as WeightedSum
from ._result import Fit as Fit, TrainingError as TrainingError
from ._trajectories import TrajectoryLoss as TrajectoryLoss
