"""Models on disk: arrays and a description of structure, and no code."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._core import atomic_file
from ._saving_names import Names, name_of
from ._saving_structure import Decoder, Encoder

_FORMAT = 1
_KEY = "hybrid_nds"


def save(path: str | os.PathLike[str], model: PyTree) -> None:
    """Write a model to a file, without pickle.

    The file is of the [safetensors](https://github.com/huggingface/safetensors)
    format: the model's arrays bit for bit under the names of their places, such as
    `network.layers[0].weight`, and in the header a description of the structure as
    JSON: classes and functions by name, and whatever is no array. It appears under its
    name only when it is whole.

    **Arguments:**

    - `path`: of the file, by custom with the suffix `.safetensors`; a file that is
        there is replaced.
    - `model`: an Equinox module, or a pytree of modules, arrays, numbers and texts.

    **Raises:** `TypeError` for what has no name to be found by, such as a lambda or a
    class made within a function, or of another type than these, naming its place.
    """
    import safetensors.numpy

    encoder = Encoder("save")
    structure = encoder.node(model, "")
    text = json.dumps(
        {
            "format": _FORMAT,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("hybrid_nds", "equinox", "jax")
            },
            "model": structure,
        },
        allow_nan=False,
    )
    data = safetensors.numpy.save(encoder.arrays, metadata={_KEY: text})
    with atomic_file(path) as file:
        file.write(data)


def load(
    path: str | os.PathLike[str], like: PyTree = None, *, trust: Any = ()
) -> PyTree:
    """Read a model that [`save`][hybrid_nds.save] wrote, bit for bit.

    Loading runs no code that the file names and imports nothing: classes and functions
    are looked up by name among those of JAX (`jax.numpy`, `jax.nn`, `jax.lax`,
    `jax.scipy.special`), Equinox, Diffrax and this package, and those that are passed.
    Modules are filled with their fields; their `__init__` does not run.

    **Arguments:**

    - `path`: of the file.
    - `like`: a model of the same structure, or what `equinox.filter_eval_shape` makes
        of its constructor; arrays must have its shapes and dtypes, and everything else
        must be equal. Its classes and functions are trusted.
    - `trust`: classes, functions and modules beyond these that the file may name; or a
        mapping from names that are in the file, for what was moved since or was
        defined in a script: `{"__main__.Model": Model}`.

    **Returns:** the model.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, of a newer
    format, or not written by [`save`][hybrid_nds.save]; that names what is unknown;
    whose arrays are missing, left over or of another shape; that differs from `like`;
    or that holds 64-bit numbers while JAX runs in 32 bits.
    """
    names = Names("load", trust, like)
    config, arrays = _read(Path(path))
    try:
        model = Decoder("load", arrays, names).model(config["model"])
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"load: the description in {path} makes no sense: "
            f"{type(error).__name__}: {error}. It is damaged, or was changed by other "
            "hands."
        ) from error
    if like is not None:
        _compare(model, like, path)
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import safetensors

    if not path.is_file():
        raise FileNotFoundError(f"load: there is no file {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            # Not a mapping, whatever it has.
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"load: {path} is no safetensors file, or damaged: {error}."
        ) from error
    if text is None:
        raise ValueError(
            f"load: {path} holds arrays, but was not written by hybrid_nds.save: it "
            "describes no model. Put the arrays into a model with equinox.tree_at."
        )
    try:
        config = json.loads(text)
        number, versions = config["format"], config["versions"]
        written = str(versions["hybrid_nds"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"load: the description in {path} cannot be read: {error!r}."
        ) from error
    if number != _FORMAT:
        raise ValueError(
            f"load: {path} is of format {number!r}, written by hybrid_nds {written}; "
            f"this is hybrid_nds {importlib.metadata.version('hybrid_nds')}, which "
            f"reads format {_FORMAT}. Update hybrid_nds."
        )
    return config, arrays


def _compare(model: PyTree, like: PyTree, path: Any) -> None:
    """Refuse a model that differs from another in more than its numbers."""
    ours, theirs = (_parts(tree) for tree in (model, like))
    for place in [*ours, *theirs]:
        found, wanted = (x.get(place, "nothing") for x in (ours, theirs))
        if found != wanted:
            raise ValueError(
                f"load: `model{place}` in {path} is {found}, but `like{place}` is "
                f"{wanted}. Pass a model made as the saved one was, or none."
            )
    found, wanted = (jtu.tree_structure(x) for x in (model, like))
    if found != wanted:
        raise ValueError(
            f"load: the model in {path} and `like` are of different structure: {found} "
            f"against {wanted}."
        )


def _parts(tree: PyTree) -> dict[str, str]:
    """What stands at each place, in words."""
    found = {}
    for path, leaf in jtu.tree_leaves_with_path(tree):
        place = jtu.keystr(path)
        if isinstance(leaf, np.ndarray | np.generic | jax.Array | jax.ShapeDtypeStruct):
            found[place] = f"an array of shape {leaf.shape} and dtype {leaf.dtype}"
        else:
            found[place] = (callable(leaf) and name_of(leaf)) or repr(leaf)
    return found
