"""Which method a stochastic problem gets: what suits it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable

from ..problems import SDEProblem
from ._ode import Stack
from ._sde import STOCHASTIC_SOLVERS, StochasticSolverInfo


def check_suits(info: StochasticSolverInfo, problem: SDEProblem, stack: Stack) -> None:
    """Refuse a method that does not take the noise of a problem, or that would
    converge to the other interpretation.

    **Raises:** `ValueError` with the methods that suit, or the conversion that helps.
    """
    if not info.takes(problem):
        form = " in the form of a matrix" if problem.noise == "additive" else ""
        raise ValueError(
            f"solve: {info.name} takes no {problem.noise!r} noise{form}; on the "
            f"{stack} backend these do: {_names(suitable(problem, stack))}."
        )
    if not info.converges_to(problem):
        other = "stratonovich" if problem.interpretation == "ito" else "ito"
        raise ValueError(
            f"solve: {info.name} converges to the solution in the "
            f"{other!r} interpretation, and `problem` has "
            f"interpretation={problem.interpretation!r}. Solve "
            f"hybrid_nds.to_{other}(problem), which has the same solution, or take one "
            f"of {_names(suitable(problem, stack))}."
        )
    if info.langevin and not getattr(problem.drift, "langevin", False):
        raise ValueError(
            f"solve: {info.name} is for underdamped Langevin dynamics alone; make the "
            "problem by hybrid_nds.underdamped_langevin, or take one of "
            f"{_names(suitable(problem, stack))}."
        )


def suitable(
    problem: SDEProblem, stack: Stack, *, adaptive: bool = False
) -> tuple[StochasticSolverInfo, ...]:
    """The methods of one stack for a problem's noise and interpretation.

    **Arguments:** the problem; the stack; whether to keep only methods that estimate
    their error there.

    **Returns:** rows of the table, in its order.
    """
    return tuple(
        info
        for info in STOCHASTIC_SOLVERS
        if info.on(stack) is not None
        and info.takes(problem)
        and info.converges_to(problem)
        and (not info.langevin or getattr(problem.drift, "langevin", False))
        and (stack in info.adaptive or not adaptive)
    )


def default_solver(
    problem: SDEProblem, stack: Stack, *, adaptive: bool
) -> StochasticSolverInfo:
    """The method of a solve that names none.

    **Arguments:** the problem; the stack; whether the solve holds tolerances.

    **Returns:** in fixed steps SRA1 for additive noise, Euler for an Itô and Heun for
    a Stratonovich equation, which are twins on the two stacks; with tolerances a
    method of the stack that estimates its error.

    **Raises:** `ValueError` where the stack has none.
    """
    able = {info.name: info for info in suitable(problem, stack, adaptive=adaptive)}
    if adaptive:
        order = ("SRA1", "SOSRI", "RKMil", "SPaRK", "LambaEM", "LambaEulerHeun")
    else:
        order = ("SRA1", "Euler", "Heun")
    for name in order:
        if name in able:
            return able[name]
    other = "stratonovich" if problem.interpretation == "ito" else "ito"
    raise ValueError(
        f"solve: no solver of the {stack} backend controls its error on an equation in "
        f"the {problem.interpretation!r} interpretation; pass `dt` alone for fixed "
        f"steps, or solve hybrid_nds.to_{other}(problem), which has the same solution."
    )


def _names(infos: Iterable[StochasticSolverInfo]) -> str:
    return ", ".join(info.name for info in infos)
