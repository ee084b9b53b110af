"""`hybrid-nds stability`: one analysis of one problem."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ._cache import Cache
from ._output import RESULTS, Plot, check_files, write_result
from ._problem import Problem, read_problem
from ._report import fail
from ._streams import console

stability = typer.Typer(help="Analyses of stability.", no_args_is_help=True)
# What the command line says by options of its own, or cannot say.
_OWN = ("problem", "backend", "key", "progress", "save", "path")


@stability.command("list")
def list_analyses() -> None:
    """List the analyses, and what `--set` can set of each."""
    table = Table()
    for head in ("analysis", "of what", "--set"):
        table.add_column(head, overflow="fold")
    for name, function in analyses().items():
        first = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        table.add_row(name, first, ", ".join(_settable(function)))
    console().print(table)


@stability.command("run")
def run_analysis(
    analysis: Annotated[str, typer.Argument(help="One of `stability list`.")],
    problem: Problem,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An argument of the analysis, name=value with the value as in TOML, "
            "such as time=500.0 or region=[[-2, -2], [2, 2]]; may be repeated.",
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="diffrax or julia, where there is a choice.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what the analysis draws.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Write the result to this .json or .nc file.")
    ] = None,
    plot: Plot = None,
    cache: Cache = True,
) -> None:
    """Analyse one problem, and print the result."""
    import jax.random as jr

    from .. import double_precision
    from ..analysis import AnalysisError

    known = analyses()
    if analysis not in known:
        fail(f"no analysis {analysis!r}; there are {', '.join(known)}.", 2)
    function = known[analysis]
    parameters = inspect.signature(function).parameters
    options = _options(analysis, _settable(function), given or [])
    if backend is not None:
        if "backend" not in parameters:
            fail(f"{analysis} has no choice of --backend.", 2)
        options["backend"] = backend
    check_files(output, plot, RESULTS)
    screen = console(soft_wrap=True)
    try:
        one = read_problem(problem)
        with double_precision():
            if "key" in parameters and one.problem.kind.follows_path:
                options["key"] = jr.key(seed)
            if "progress" in parameters:
                options["progress"] = screen.is_terminal
            result = function(one.problem, **options)
    except (
        *(ValueError, TypeError, RuntimeError, OSError, ImportError),
        AnalysisError,
    ) as error:
        fail(error)
    screen.print(str(result))
    if output is not None:
        write_result(output, result)
        screen.print(f"Wrote {output}.")
    if plot is not None:
        result.plot(path=plot)
        screen.print(f"Drew {plot}.")


def analyses() -> Mapping[str, Callable[..., Any]]:
    """The analyses that a problem and plain values are enough for, by name."""
    from .. import stability as room

    found = {}
    for name in dir(room):
        function = getattr(room, name)
        if not inspect.isfunction(function):
            continue
        if next(iter(inspect.signature(function).parameters)) == "problem":
            found[name] = function
    return found


def _settable(function: Callable[..., Any]) -> dict[str, bool]:
    """The arguments that `--set` can set, and whether each must be."""
    return {
        one.name: one.default is one.empty
        for one in inspect.signature(function).parameters.values()
        if one.name not in _OWN and one.kind is not one.VAR_KEYWORD
    }


def _options(
    analysis: str, settable: Mapping[str, bool], given: list[str]
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or name not in settable:
            fail(
                f"--set: {analysis} takes name=value with a name of "
                f"{', '.join(settable)}; got {text!r}.",
                2,
            )
        options[name] = _value(value.strip())
    lacking = [name for name, must in settable.items() if must and name not in options]
    if lacking:
        fail(
            f"{analysis} wants {' and '.join(f'--set {x}=...' for x in lacking)}; see "
            f"its page in the documentation.",
            2,
        )
    return options


def _value(text: str) -> Any:
    """A value as TOML writes it; other text is itself, such as a solver's name."""
    try:
        return _tuples(tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return text


def _tuples(value: Any) -> Any:
    """Lists as the pairs and points that analyses take."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
