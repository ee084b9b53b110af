"""Continuous models of deep learning and dynamics, one family a file."""

from ._base import (
    ContinuousModel as ContinuousModel,
    StochasticModel as StochasticModel,
)
from ._contracting import ContractingODE as ContractingODE
from ._hamiltonian import (
    HamiltonianODE as HamiltonianODE,
    PortHamiltonianODE as PortHamiltonianODE,
)
from ._neural_cde import NeuralCDE as NeuralCDE
from ._neural_ode import (
    AugmentedNeuralODE as AugmentedNeuralODE,
    DepthVaryingODE as DepthVaryingODE,
    NeuralODE as NeuralODE,
)
from ._recurrent import HopfieldODE as HopfieldODE, RecurrentODE as RecurrentODE
from ._resnet import ResNet as ResNet
