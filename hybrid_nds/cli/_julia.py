"""`hybrid-nds julia`: get Julia, or say where it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ._report import fail

julia = typer.Typer(help="Install Julia, or configure one that is there.")


@julia.command()
def install() -> None:
    """Install Julia and its packages for this user (needs the internet)."""
    from ..runtime import bridge_version, julia_source

    if bridge_version() is None:
        fail('juliacall is not installed: pip install "hybrid_nds[julia]"', 2)
    import juliapkg

    typer.echo(f"Resolving Julia and the packages of {julia_source()} (minutes) ...")
    try:
        juliapkg.resolve()
    except Exception as error:
        fail(
            f"{error}. Without internet, prepare an environment elsewhere and point "
            "to it: hybrid-nds julia configure --exe JULIA --project FOLDER."
        )
    typer.echo(f"Julia {juliapkg.executable()}, project {juliapkg.project()}.")
    typer.echo("It starts in a fraction of the time after: hybrid-nds julia image")


@julia.command()
def image(
    compiler: Annotated[
        str | None,
        typer.Option(
            help="The folder of a Julia environment that holds PackageCompiler, where "
            "nothing can be downloaded."
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what was built.")
    ] = False,
) -> None:
    """Compile Julia and its packages into one file, from which it starts in a fraction
    of the time (a quarter of an hour or more, once; needs a C compiler)."""
    from ..runtime import (
        ConfigurationError,
        JuliaNotFoundError,
        SystemImageError,
        build_image,
        remove_images,
    )

    if remove:
        for path in remove_images():
            typer.echo(f"Removed {path}.")
        return
    uses = [sys.executable, "-m", "hybrid_nds.cli._typical_uses"]
    try:
        path = build_image(uses, compiler=compiler, report=typer.echo)
    except (ConfigurationError, JuliaNotFoundError, SystemImageError) as error:
        fail(error)
    size = path.stat().st_size / 2**20
    typer.echo(f"{path}, {size:.0f} MiB: Julia starts from it from now on.")


@julia.command()
def configure(
    exe: Annotated[str | None, typer.Option(help="The Julia executable.")] = None,
    project: Annotated[
        str | None,
        typer.Option(help="The folder of an environment with HybridNDS in it."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Julia threads to start.")] = 1,
    show: Annotated[bool, typer.Option("--show", help="Show what is saved.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Forget it.")] = False,
) -> None:
    """Save which Julia to use, or show or remove what is saved."""
    from ..runtime import (
        Configuration,
        ConfigurationError,
        JuliaNotFoundError,
        check_julia,
        configuration_path,
        load_configuration,
        remove_configuration,
        save_configuration,
    )

    if remove:
        path = remove_configuration()
        typer.echo(f"Removed {path}." if path else "Nothing was saved.")
        return
    if show:
        try:
            saved = load_configuration()
        except ConfigurationError as error:
            fail(error)
        typer.echo(f"{configuration_path()}: {saved or 'nothing saved'}")
        return
    if exe is None or project is None:
        fail("give both --exe and --project, or --show or --remove", 2)
    folder = Path(project).expanduser()
    # An executable may be a bare name to be looked up in PATH.
    exe = str(Path(exe).expanduser().absolute()) if "/" in exe or "\\" in exe else exe
    try:
        version = check_julia(exe, str(folder), "the command line")
    except JuliaNotFoundError as error:
        fail(error)
    path = save_configuration(Configuration(exe, str(folder.absolute()), threads))
    typer.echo(f"Julia {version} saved in {path}. Try it: hybrid-nds doctor")
