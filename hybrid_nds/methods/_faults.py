"""Known faults of the solvers of both stacks, and what this package does about them.

Each was seen with the version it names. Tests show those that this package refuses or
warns of, so that the refusal goes when the fault does.
"""

from __future__ import annotations

import dataclasses

Stack = str
"""The name of a solver stack: `"diffrax"`, `"julia"`, or one that was installed."""


@dataclasses.dataclass(frozen=True)
class SolverFault:
    """A known fault of a solver in one stack.

    **Fields:**

    - `stack`: `"diffrax"` or `"julia"`.
    - `version`: the package and version it was seen with.
    - `where`: the situation in which it shows.
    - `effect`: what happens there; the solver is the subject of the sentence.
    - `remedy`: what this package does about it.
    """

    stack: Stack
    version: str
    where: str
    effect: str
    remedy: str


_DIFFRAX = "Diffrax 0.7.2"
_SDIRK = "OrdinaryDiffEqSDIRK 2.9.1"
_FIRK = "OrdinaryDiffEqFIRK 2.8"
_ORDINARY = "OrdinaryDiffEq 7.7.0"
_STOCHASTIC = "StochasticDiffEq 7.1.4"

CHORD = SolverFault(
    "diffrax",
    _DIFFRAX,
    "its default root finder, `VeryChord`",
    "keeps one Jacobian for a whole step, and takes about ten times as many steps on "
    "Robertson's and Van der Pol's problems at every tolerance",
    "Solves the stages by Newton's method; `root_finder=` takes another.",
)
CHORD_STALLS = dataclasses.replace(
    CHORD, effect="keeps one Jacobian for a whole step, and makes no progress"
)
COARSE_OUTPUT_DIFFRAX = SolverFault(
    "diffrax",
    _DIFFRAX,
    "values between steps",
    "is 13 to 75 times less accurate there than at its steps (an oscillator at "
    "`rtol=1e-8`)",
    "Ends steps at the times of `saveat`; `step_to_saveat=False` does not, and events "
    "are found between steps.",
)
COARSE_EVENTS = SolverFault(
    "diffrax",
    _DIFFRAX,
    "events",
    "finds them on its interpolant, where it can be hundreds of times less accurate "
    "than its tolerances ask for",
    "Warns: take Kvaerno5.",
)
IMEX_PRECISION = SolverFault(
    "diffrax",
    _DIFFRAX,
    "a float32 state saved at float32 times, where JAX runs in 64 bits",
    "interpolates with coefficients of 64 bits, and fails",
    "Refuses: take Kvaerno5, or a float64 state.",
)
KENCARP5_COEFFICIENT = SolverFault(
    "diffrax",
    _DIFFRAX,
    "every step",
    "has one coefficient (a76) that is off by 2e-12: its published denominator ends in "
    "749, Diffrax's in 719",
    "Compares no steps of the two stacks: the row is no twin.",
)
MILSTEIN_PYTREES = SolverFault(
    "diffrax",
    _DIFFRAX,
    "diagonal noise on a state that is not one vector",
    "forms a matrix itself, and fails on increments that are no single array",
    "Gives it the whole matrix.",
)

MILSTEIN_PRECISION = SolverFault(
    "diffrax",
    _DIFFRAX,
    "a float32 state where JAX runs in 64 bits",
    "subtracts a multiple of an identity matrix of 64 bits, and its state with it "
    "changes its precision",
    "Rounds each step to the precision of the state.",
)

COARSE_OUTPUT_JULIA = SolverFault(
    "julia",
    _ORDINARY,
    "values between steps",
    "is 4 to 12 times less accurate there than at its steps, and misses the tolerance "
    "(an oscillator at 1e-8)",
    "Ends steps at the times of `saveat`; `step_to_saveat=False` does not, and events "
    "are found between steps.",
)
SMOOTHED_ESTIMATE = SolverFault(
    "julia",
    _SDIRK,
    "error control, `smooth_est = true`, its default",
    "multiplies the error estimate by the inverse of M/(γ dt) - J, and not by 1/(γ dt) "
    "as well, so that accuracy depends on the unit of time: stiff equations are solved "
    "up to 30,000 times less accurately than `rtol` and `atol` ask for",
    "Passes `smooth_est = false`.",
)
STAGE_TIME = SolverFault(
    "julia",
    _SDIRK,
    "a field that depends on time",
    "evaluates the second stage at c₂ = γ in place of 2γ, and loses its order",
    "Corrects the tableau before every solve.",
)
FALSE_SUCCESS = SolverFault(
    "julia",
    _ORDINARY,
    "Newton's tolerance κ = 1e-10 and tolerances of 1e-13",
    "returns Success in a wrong state",
    "Keeps κ at 0.01, in fixed steps at 1e-6; with a `newton_tolerance` of your own "
    "look at rung L2, where errors that do not fall show it.",
)
TIME_DEPENDENT_CONSTRAINTS = SolverFault(
    "julia",
    _FIRK,
    "a singular mass matrix, algebraic equations that depend on time",
    "fails, and says so",
    "Reports the failure: take Rodas5P or FBDF.",
)
ALGEBRAIC_RESIDUAL = SolverFault(
    "julia",
    _FIRK,
    "a singular mass matrix, Newton's tolerance κ = 0.01",
    "can stop at a point of time with steps that no length is short enough for: what "
    "Newton's iteration leaves of the algebraic equations counts in full in the next "
    "step's error estimate, which after a rejected step is not evaluated anew, as in "
    "Hairer's code (a pendulum of index 1 at 1e-8 ends unstable at t = 0.05)",
    "Solves the stages to κ = 1e-6, or to round-off, where there is a mass matrix; "
    "`newton_tolerance` takes another.",
)
SCALAR_TOLERANCE = SolverFault(
    "julia",
    _FIRK,
    "an `atol` for each component",
    "takes one number alone",
    "Refuses: take Rodas5P or FBDF.",
)

SPLIT_EULER = SolverFault(
    "julia",
    _STOCHASTIC,
    "its default, `EM()`",
    "takes the diffusion after the drift's step, which is another scheme than "
    "Euler–Maruyama; the keyword of its docstring is a MethodError",
    "Calls `EM(false)`, which is Euler–Maruyama.",
)
ADAPTS_UNASKED = SolverFault(
    "julia",
    _STOCHASTIC,
    "a given `dt`",
    "adapts its steps all the same",
    "Asks for fixed steps (`adaptive = false`) wherever there is no tolerance.",
)
LOST_NOISE = SolverFault(
    "julia",
    _STOCHASTIC,
    "diagonal noise, with error control",
    "overwrites the noise of a step by its error estimate, and states grow beyond all "
    "bounds",
    "Warns: pass `dt` alone, or take ImplicitEM.",
)
LESS_ACCURATE_IN_PLACE = SolverFault(
    "julia",
    _STOCHASTIC,
    "error control, fields in place",
    "is visibly less accurate than with fields out of place",
    "Nothing: fields here are in place. Prefer fixed steps.",
)
OUT_OF_PLACE = SolverFault(
    "julia",
    _STOCHASTIC,
    "a vector state, fields out of place",
    "raises a MethodError",
    "Never meets it: fields here are in place.",
)
BIASED_DIFFERENCES = SolverFault(
    "julia",
    _STOCHASTIC,
    "Stratonovich equations",
    "has strong order 1/2 and not 1: the difference quotient is off by √h g''g²/2, "
    "which half of dW² does not average away",
    "Says so in the note of the solver.",
)
# The subject of the refusals of julia_stochastic.py.
UNCONTROLLED = "matrix noise of several Brownian motions, with error control"
_FIXED_STEPS_ONLY = "Refuses `rtol` and `atol` there: pass `dt` alone."
NO_ESTIMATE = SolverFault(
    "julia", _STOCHASTIC, UNCONTROLLED, "estimates no error", _FIXED_STEPS_ONLY
)
AREA_DRAWN_ANEW = SolverFault(
    "julia",
    _STOCHASTIC,
    UNCONTROLLED,
    "draws the Lévy area of a step anew when the step is rejected",
    _FIXED_STEPS_ONLY,
)
ESTIMATE_SHAPE = SolverFault(
    "julia",
    _STOCHASTIC,
    UNCONTROLLED,
    "adds an error estimate of the wrong shape",
    _FIXED_STEPS_ONLY,
)
SCALAR_NOISE = SolverFault(
    "julia",
    _STOCHASTIC,
    "one Brownian motion for several components",
    "takes the components of the noise for independent ones",
    "Passes the diffusion as a matrix of one column.",
)
LOST_TERMS = SolverFault(
    "julia",
    _STOCHASTIC,
    "several Brownian motions",
    "loses terms of the noise where there is more than one Brownian motion",
    "Refuses: take DRI1.",
)

# Faults of a whole stack, whichever the solver.
STACK_FAULTS: tuple[SolverFault, ...] = (
    SolverFault(
        "diffrax",
        _DIFFRAX,
        "several events within one step",
        "looks for the time of the first in the list that fired, though another may "
        "have fired earlier",
        "Stops at the earliest crossing.",
    ),
    SolverFault(
        "diffrax",
        _DIFFRAX,
        "a condition that is zero at the start",
        "takes it for an event",
        "Stops at the first crossing after it.",
    ),
    SolverFault(
        "diffrax",
        _DIFFRAX,
        "events of a solve backward in time",
        "calls conditions with the time negated",
        "Calls them with your time.",
    ),
    SolverFault(
        "julia",
        _ORDINARY,
        "implicit solvers, a field in Python and no Jacobian",
        "differentiates by dual numbers, which NumPy turns into rubbish: the solve "
        "runs out of steps, or hangs",
        "Gives the exact Jacobian, lowered or by callback.",
    ),
    SolverFault(
        "julia",
        _ORDINARY,
        "a callback that puts the state exactly on the event's surface (Tsit5, Vern7, "
        "Rodas5P)",
        "can miss the next event",
        "Never meets it: events end the solve.",
    ),
)
