"""Problems of a user's own from a TOML file: what to solve, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import double_precision
from ...problems import Interpretation, NoiseKind, ODEProblem, SDEProblem
from .._fixtures import KINDS, blamed, builtin_problem
from .._sde_fixtures import builtin_stochastic_problem
from .._specification import Table, read_toml
from ._expression import check_name, parse_expression
from ._folders import find_folder
from ._load import Parameters, check_read, fixture_of

_SPAN = ("y0", "t0", "t1", "parameters")
_STATES = "a table of its components, [y0] with a number for each"


@dataclasses.dataclass(frozen=True)
class NamedProblem:
    """A problem of a file.

    **Fields:** its name; the problem, in double precision; what its file calls the
    components of the state; whether it is called stiff; and the fixture, where the
    file is one.
    """

    name: str
    problem: ODEProblem | SDEProblem
    components: tuple[str, ...]
    stiff: bool
    fixture: Any = None


def load_problem(path: str | Path) -> NamedProblem:
    """The problem of a TOML file.

    Its `field`, or `drift` and `diffusion`, are tables of arithmetic expressions, one
    for each component that the table `y0` names, in the components, the time `t` and
    the `parameters`; or `field` is the name of one of the package, with `y0` a list.

    **Arguments:** `path`, a file, a folder with a `problem.toml`, or a fixture's name.

    **Returns:** a [`NamedProblem`][hybrid_nds.reconcile.loading.NamedProblem]; solve it
    within [`double_precision`][hybrid_nds.double_precision].

    **Raises:** `FileNotFoundError` for a file that is not there, `ValueError` naming
    the file and the key for one that is malformed.
    """
    file = Path(path)
    if not file.is_file():
        file = find_folder(path) / "problem.toml"
    entries = read_toml(file)
    spec = Table(file, entries)
    if "reference" in spec or "strong" in spec:
        fixture = fixture_of(file.parent, entries)
        count = fixture.problem.dimension
        stiff = bool(getattr(fixture, "stiff", False))
        return NamedProblem(
            fixture.name, fixture.problem, _numbered(count), stiff, fixture
        )
    kind = spec.choice("kind", (*KINDS, "sde"))
    name = spec.text("name", file.stem if file.stem != "problem" else file.parent.name)
    spec.texts("sources", ())
    stiff = "stiff" in spec and spec.flag("stiff")
    given = spec.table("parameters").all() if "parameters" in spec else {}
    parameters = Parameters(given)
    if isinstance(entries.get("y0"), Mapping):
        problem, components = _inline(spec, kind, parameters)
    else:
        make = builtin_stochastic_problem if kind == "sde" else builtin_problem
        problem = make(spec, parameters)
        components = _numbered(problem.dimension)
    check_read(spec, given, parameters)
    return NamedProblem(name, problem, components, stiff)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"y{k + 1}" for k in range(count))


class InlineFunction(eqx.Module):
    """A function of time, state and parameters, of expressions.

    **Fields:** the names of the components, and the expressions, a row for each
    component: one, or one for each Brownian motion.
    """

    components: tuple[str, ...] = eqx.field(static=True)
    rows: tuple[tuple[str, ...], ...] = eqx.field(static=True)
    matrix: bool = eqx.field(static=True)

    def __call__(
        self, t: Any, y: Float[Array | np.ndarray, " n"], args: Mapping[str, Any]
    ) -> Float[Array, "n ..."]:
        names = (*self.components, *args, "t")
        values = dict(zip(self.components, y, strict=True))
        values |= {name: jnp.asarray(x, y.dtype) for name, x in args.items()}
        values |= {"t": jnp.asarray(t, y.dtype)}
        made = jnp.stack(
            [
                jnp.stack([parse_expression(text, names)(values) for text in row])
                for row in self.rows
            ]
        )
        return made if self.matrix else made[:, 0]


def _inline(
    spec: Table, kind: str, given: Parameters
) -> tuple[ODEProblem | SDEProblem, tuple[str, ...]]:
    start = spec.table("y0")
    components = tuple(start.entries)
    if not components:
        raise spec.wrong("y0", _STATES)
    for table, names in (("y0", components), ("parameters", tuple(given))):
        for name in names:
            try:
                check_name(name)
            except ValueError as error:
                raise ValueError(f"{spec.file}: `{table}.{name}`: {error}.") from None
    both = sorted(set(components) & set(given))
    if both:
        raise ValueError(
            f"{spec.file}: {', '.join(both)} stand both in [y0] and in [parameters]; a "
            "name has one meaning."
        )
    y0 = np.array([start.number(name) for name in components])
    args = {name: np.asarray(_parameter(spec, given, name)) for name in given}
    times = spec.number("t0"), spec.number("t1")
    function = lambda key: _function(spec.table(key), components, args)
    if kind == "sde":
        terms = function("drift"), function("diffusion")
        named = {"noise": spec.choice("noise", get_args(NoiseKind))}
        if "interpretation" in spec:
            named["interpretation"] = spec.choice(
                "interpretation", get_args(Interpretation)
            )
        with double_precision(), blamed(spec, "drift", "diffusion", "noise", *_SPAN):
            made: Any = named
            return SDEProblem(*terms, y0, *times, args, **made), components
    mass = spec.numbers("mass_diagonal", None)
    if (mass is not None) != (kind == "dae"):
        raise ValueError(
            f'{spec.file}: `mass_diagonal` belongs to `kind = "dae"` alone.'
        )
    if mass is not None and mass.size != len(components):
        raise spec.wrong("mass_diagonal", f"a list of {len(components)} numbers")
    field, matrix = function("field"), None if mass is None else np.diag(mass)
    with double_precision(), blamed(spec, "field", *_SPAN):
        return ODEProblem(field, y0, *times, args, mass_matrix=matrix), components


def _parameter(spec: Table, given: Parameters, name: str) -> float:
    number = given[name]
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise spec.table("parameters").wrong(name, "a number")
    return spec.table("parameters").number(name)


def _function(
    table: Table, components: tuple[str, ...], args: Mapping[str, Any]
) -> InlineFunction:
    """The function of a table of expressions."""
    named = f"{table.file}: [{table.name}]"
    missing = [name for name in components if name not in table]
    more = [name for name in table.entries if name not in components]
    if missing or more:
        faults = [f"it lacks {', '.join(missing)}"] if missing else []
        faults += [f"it has {', '.join(more)} beside them"] if more else []
        raise ValueError(
            f"{named} must have an expression for each component of [y0], "
            f"{', '.join(components)}; {' and '.join(faults)}."
        )
    matrix = any(isinstance(table.entries[name], list) for name in components)
    rows, names = [], (*components, *args, "t")
    for name in components:
        row = table.texts(name) if matrix else (table.text(name),)
        for text in row:
            try:
                parse_expression(text, names)
            except ValueError as error:
                raise ValueError(
                    f"{table.file}: `{table.path(name)}`: {error}."
                ) from None
        rows.append(row)
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"{named} must have as many expressions for each component, one for each "
            "Brownian motion."
        )
    return InlineFunction(components, tuple(rows), matrix)
