from ._backend import DiffraxBackend as DiffraxBackend, plan as plan
from ._events import AtSteadyState as AtSteadyState, Crossing as Crossing
from ._parts import no_drift as no_drift
from ._run import DiffeqsolveArguments as DiffeqsolveArguments
from ._scan import StepIncrement as StepIncrement
from ._sde import (
    DiffusionOperator as DiffusionOperator,
    StatePath as StatePath,
    make_stochastic_terms as make_stochastic_terms,
)
from ._stability import (
    diffrax_tangent_flow as diffrax_tangent_flow,
    powers_of_two as powers_of_two,
)
from ._stages import ToleranceNewton as ToleranceNewton
