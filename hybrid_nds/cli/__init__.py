"""The command line; each command imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ._cache import use_compilation_cache
from ._doctor import doctor
from ._julia import julia
from ._reconcile import reconcile
from ._solve import solve
from ._stability import stability
from ._streams import use_any_encoding
from ._study import study
from ._validate import validate

app = typer.Typer(
    name="hybrid-nds",
    help="Neural dynamical systems on two solver stacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    cache: Annotated[
        bool,
        typer.Option(
            help="Keep what JAX compiles in the user's cache folder, for the next run."
        ),
    ] = True,
) -> None:
    """Neural dynamical systems on two solver stacks."""
    use_any_encoding()
    if cache:
        use_compilation_cache()


app.command()(doctor)
app.command()(solve)
app.command()(reconcile)
app.command()(validate)
app.add_typer(stability, name="stability")
app.add_typer(julia, name="julia")
app.add_typer(study, name="study")


def main() -> None:
    """Run the command line."""
    # For `--help` too, which runs no command.
    use_any_encoding()
    app()
