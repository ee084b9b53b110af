"""The names that `solver=` takes."""

from __future__ import annotations

from .. import methods
from .._core import check_choice
from ..methods import Stack
from ..problems import KindName


def solver_names(
    stack: Stack, kind: KindName = "ode", *, installed: bool = False
) -> tuple[str, ...]:
    """The solvers one stack has, aliases included.

    **Arguments:** `stack`, its name, as `backend=` takes it; `kind` of equation,
    `"ode"` or `"sde"`; `installed`, for the ordinary problems of Julia, whether to list
    the algorithms of the packages that Julia has loaded, too, each as
    `"Package.Name"`, which starts Julia.

    **Returns:** the names `solver=` takes there, in alphabetical order.

    **Raises:** `ValueError` for a stack that there is not, or for `installed` with
    another stack or kind.
    """
    names = methods.solver_names(stack, kind)
    if not installed:
        return names
    where = "solver_names with `installed`"
    check_choice(where, "stack", stack, ("julia",))
    check_choice(where, "kind", kind, ("ode",))
    from ..backends.julia import installed as in_julia

    return tuple(sorted((*names, *in_julia()), key=str.casefold))
