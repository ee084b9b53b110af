"""Training of continuous models: losses, checkpoints, history."""

from ._fit import fit as fit
from ._history import History as History
from ._result import Fit as Fit, TrainingError as TrainingError
