"""Results as files, of the kind that their endings name."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .._core import atomic_file, check_writable_file
from ._report import check_output, fail

TABLES = (".csv", ".parquet")
RESULTS = (".json", ".nc")

Plot = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw the result to this file, such as figure.png."),
]


def check_files(output: Path | None, plot: Path | None, endings: Sequence[str]) -> None:
    """Exit before the work where its results could not be written."""
    if output is not None:
        check_output(check_writable_file, "--output", output)
        if output.suffix not in endings:
            fail(f"--output must be one of *{', *'.join(endings)}, got {output}.", 2)
        if output.suffix == ".parquet":
            _parquet_library()
        if output.suffix == ".nc":
            _xarray_library()
    if plot is not None:
        check_output(check_writable_file, "--plot", plot)


def write_table(path: Path, names: Sequence[str], ts: Any, ys: Any) -> None:
    """Write times and states, the times first, in full digits; a reader never sees
    half a file."""
    import numpy as np

    columns = {"t": ts} | {name: ys[:, k] for k, name in enumerate(names)}
    if path.suffix == ".csv":
        values = [np.asarray(x, float).tolist() for x in columns.values()]
        rows = zip(*values, strict=True)
        lines = [",".join(columns), *(",".join(map(repr, row)) for row in rows)]
        _write(path, ("\r\n".join(lines) + "\r\n").encode())
        return
    pyarrow, parquet = _parquet_library()
    file = io.BytesIO()
    parquet.write_table(
        pyarrow.table({name: np.asarray(x) for name, x in columns.items()}), file
    )
    _write(path, file.getvalue())


def write_result(path: Path, result: Any) -> None:
    """Write what a result holds, with its settings and provenance."""
    if path.suffix == ".json":
        _write(path, json.dumps(result.to_dict(), indent=1).encode())
        return
    _write(path, bytes(result.to_xarray().to_netcdf(None, engine="scipy")))


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as file:
        file.write(data)


def _parquet_library() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        fail("Parquet needs pyarrow: pip install 'hybrid_nds[parquet]'.", 2)
    return pyarrow, pyarrow.parquet


def _xarray_library() -> None:
    try:
        import xarray  # noqa: F401
    except ImportError:
        fail("NetCDF needs xarray: pip install 'hybrid_nds[xarray]'.", 2)
