"""`hybrid-nds doctor`: what is here, whether it works, and what mends it."""

from __future__ import annotations

import importlib.metadata
import json
import time
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ._streams import console

_PACKAGES = ("hybrid_nds", "jax", "equinox", "diffrax", "optimistix", "juliacall")


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a machine-readable report.")
    ] = False,
) -> None:
    """Say what is installed, test both backends, and name what mends what is broken."""
    findings = examine()
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
    else:
        _show(findings)
    if any(check["status"] == "broken" for check in findings["checks"]):
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """What the doctor finds, as plain data.

    **Returns:** `versions`, `jax` (devices, precision), `julia` (where, which), and
    `checks`: name, status (`"works"`, `"absent"` or `"broken"`), message, remedy.
    """
    import jax

    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    findings: dict[str, Any] = {
        "versions": versions,
        "jax": {
            "devices": [str(device) for device in jax.devices()],
            "double_precision": bool(jax.config.read("jax_enable_x64")),
        },
    }
    checks = [_test("diffrax")]
    julia, found = _find_julia()
    findings["julia"] = found
    checks.append(_test("julia") if julia is None else julia)
    findings["checks"] = checks
    return findings


def _check(name: str, status: str, message: str, remedy: str = "") -> dict[str, str]:
    return {"name": name, "status": status, "message": message, "remedy": remedy}


def _find_julia() -> tuple[dict[str, str] | None, dict[str, Any]]:
    from .. import solver_names
    from ..runtime import (
        ConfigurationError,
        JuliaNotFoundError,
        configured,
        discover,
        find_image,
        how_to_get_julia,
        session,
    )

    try:
        julia = discover()
    except (JuliaNotFoundError, ConfigurationError) as error:
        status = "broken" if configured() else "absent"
        return _check("julia", status, str(error), how_to_get_julia()), {}
    found: dict[str, Any] = {
        "source": julia.source,
        "exe": julia.exe,
        "project": julia.project,
        "threads": julia.threads,
    }
    image = find_image(julia)
    found["system_image"] = {"status": image.status, "message": image.message}
    started = time.perf_counter()
    try:
        running = session()
    except Exception as error:
        remedy = "hybrid-nds julia install, or hybrid-nds julia configure"
        return _check("julia", "broken", str(error), remedy), found
    found["start_seconds"] = round(time.perf_counter() - started, 2)
    found["versions"] = dict(running.versions)
    found["solvers"] = len(solver_names("julia", installed=True))
    return None, found


def _test(backend: str) -> dict[str, str]:
    """Solve a problem whose solution is known."""
    import jax.numpy as jnp
    import numpy as np

    import hybrid_nds

    try:
        with hybrid_nds.double_precision():
            # y' = -2y + cos t: the answer is (2 cos t + sin t)/5 + (3/5) exp(-2t).
            problem = hybrid_nds.ODEProblem(
                lambda t, y, args: -args * y + jnp.cos(t),
                jnp.ones(1),
                0.0,
                2.0,
                jnp.array(2.0),
            )
            started = time.perf_counter()
            solution = hybrid_nds.solve(problem, backend, rtol=1e-9, atol=1e-12)
            seconds = time.perf_counter() - started
        exact = (2 * np.cos(2.0) + np.sin(2.0)) / 5 + 0.6 * np.exp(-4.0)
        error = abs(float(np.asarray(solution.ys)[-1, 0]) - exact)
    except Exception as error:
        return _check(backend, "broken", f"{type(error).__name__}: {error}")
    if error > 1e-7:
        return _check(backend, "broken", f"wrong by {error:.1e} on a known problem")
    return _check(backend, "works", f"error {error:.1e}, first solve {seconds:.2f} s")


def _show(findings: dict[str, Any]) -> None:
    screen = console(soft_wrap=True)
    versions = Table(title="Versions", show_header=False)
    for name, version in findings["versions"].items():
        versions.add_row(name, version or "not installed")
    for name, version in findings["julia"].get("versions", {}).items():
        versions.add_row(f"{name} (Julia side)", version)
    screen.print(versions)
    jax = findings["jax"]
    precision = "64 bits" if jax["double_precision"] else "32 bits unless asked for 64"
    screen.print(f"JAX devices: {', '.join(jax['devices'])}; precision {precision}")
    julia = findings["julia"]
    if julia:
        where = julia["exe"] or "juliapkg's own"
        screen.print(
            f"Julia: {where}, project {julia['project'] or 'of juliapkg'}, found "
            f"through {julia['source']}, {julia['threads']} thread(s)"
        )
        image = julia["system_image"]
        screen.print(f"System image: {image['status']}. {image['message']}")
        if "solvers" in julia:
            screen.print(
                f"Solvers for ordinary problems on Julia: {julia['solvers']}, by "
                'hybrid_nds.solver_names("julia", installed=True)'
            )
    checks = Table(title="Self-test", show_header=False)
    colours = {"works": "green", "absent": "yellow", "broken": "red"}
    for check in findings["checks"]:
        status = Text(check["status"], style=colours[check["status"]])
        checks.add_row(check["name"], status, check["message"])
    screen.print(checks)
    for check in findings["checks"]:
        if check["remedy"]:
            screen.print(f"To mend {check['name']}: {check['remedy']}")
