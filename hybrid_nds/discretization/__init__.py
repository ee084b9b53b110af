"""Orders of convergence, measured, with what they are uncertain by."""

from ._estimate import OrderEstimate as OrderEstimate, fit_order as fit_order
from ._runs import end_states as end_states
from ._strong import strong_order as strong_order
from ._weak import weak_order as weak_order
