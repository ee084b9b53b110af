"""Continuous models of deep learning and dynamics, one family a file."""

from ._attention import (
    Attention as Attention,
    CircleAttention as CircleAttention,
    NoisyAttention as NoisyAttention,
)
from ._base import (
    ContinuousModel as ContinuousModel,
    StochasticModel as StochasticModel,
    assemble as assemble,
)
from ._bures_wasserstein import BuresWassersteinFlow as BuresWassersteinFlow
from ._classic import (
    DoubleWell as DoubleWell,
    Duffing as Duffing,
    FitzHughNagumo as FitzHughNagumo,
    Lorenz as Lorenz,
    Robertson as Robertson,
    StochasticHopf as StochasticHopf,
    VanDerPol as VanDerPol,
)
from ._contracting import ContractingODE as ContractingODE
from ._gradient_flow import (
    Euclidean as Euclidean,
    GradientFlow as GradientFlow,
    HyperbolicEntropy as HyperbolicEntropy,
    MirrorFlow as MirrorFlow,
    MirrorMap as MirrorMap,
    NaturalGradientFlow as NaturalGradientFlow,
    NegativeEntropy as NegativeEntropy,
)
from ._hamiltonian import (
    HamiltonianODE as HamiltonianODE,
    PortHamiltonianODE as PortHamiltonianODE,
)
from ._kuramoto import (
    Kuramoto as Kuramoto,
    NoisyKuramoto as NoisyKuramoto,
    order_parameter as order_parameter,
)
from ._latent import (
    EvidenceBound as EvidenceBound,
    LatentODE as LatentODE,
    LatentSDE as LatentSDE,
)
from ._mean_field import (
    MeanFieldLangevin as MeanFieldLangevin,
    MeanFieldODE as MeanFieldODE,
    MeanFieldResNet as MeanFieldResNet,
    linear_unit as linear_unit,
    tanh_unit as tanh_unit,
)
from ._neural_cde import NeuralCDE as NeuralCDE
from ._neural_ode import (
    AugmentedNeuralODE as AugmentedNeuralODE,
    NeuralODE as NeuralODE,
)
from ._neural_sde import CommonNoiseSDE as CommonNoiseSDE, NeuralSDE as NeuralSDE
from ._normalizing_flow import ContinuousNormalizingFlow as ContinuousNormalizingFlow
from ._path_divergence import PathDivergence as PathDivergence
from ._recurrent import HopfieldODE as HopfieldODE, RecurrentODE as RecurrentODE
from ._resnet import DepthVaryingODE as DepthVaryingODE, ResNet as ResNet
from ._spatial import NeuralField as NeuralField, ReactionDiffusion as ReactionDiffusion
