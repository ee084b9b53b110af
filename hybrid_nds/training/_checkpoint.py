"""Checkpoints of a training on disk, through Orbax."""

from __future__ import annotations

import importlib.metadata
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import PRNGKeyArray, PyTree

from .._core import check_writable_folder, write_text
from ..problems import arrays_text, digest
from ._data import ArrayBatches, StreamBatches, described
from ._step import Parts

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

_MANIFEST = "training.json"
_FORMAT = 1
_KEPT = 2
_PACKAGES = ("hybrid_nds", "jax", "jaxlib", "equinox", "diffrax", "optax")
# How JAX writes operations changes with the versions of libraries.
_TRACED = ("loss", "validation loss", "optimizer")


class Checkpoints:
    """A folder with the last checkpoints of one training.

    Orbax writes each under another name first, so that one that bears its name is
    whole. The two last ones are kept.

    **Arguments:** the folder, made if it is missing; the fingerprint of the training.

    **Raises:** `ValueError` for a folder that holds another training, or other things.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: Mapping[str, str]):
        self.folder = Path(folder).absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(
                f"fit: `checkpoint` must be a folder, but {self.folder} is a file."
            )
        check_writable_folder("fit", "checkpoint", self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
        path = self.folder / _MANIFEST
        if path.exists():
            self._compare(path, fingerprint, versions)
        elif any(self.folder.iterdir()):
            raise ValueError(
                "fit: `checkpoint` must be an empty folder or one of this same "
                f"training, but {self.folder} holds other files."
            )
        manifest = {
            "format": _FORMAT,
            "fingerprint": dict(fingerprint),
            "versions": versions,
        }
        write_text(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        self._manager = self._open()

    def _open(self) -> CheckpointManager:
        # Imported where it is used: it takes a good part of a second.
        import orbax.checkpoint as ocp

        return ocp.CheckpointManager(
            self.folder / "steps",
            options=ocp.CheckpointManagerOptions(
                max_to_keep=_KEPT, create=True, cleanup_tmp_directories=True
            ),
        )

    def _compare(
        self, path: Path, ours: Mapping[str, str], versions: Mapping[str, str]
    ) -> None:
        try:
            found = json.loads(path.read_bytes())
            theirs, known = dict(found["fingerprint"]), found["format"] == _FORMAT
            before = dict(found["versions"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"fit: `checkpoint` holds a manifest that cannot be read, {path}: "
                f"{error}. Take another folder, or remove this one."
            ) from error
        if not known:
            raise ValueError(
                f"fit: `checkpoint` is of another format, {path}. Take another folder."
            )
        names = [
            name
            for name in sorted(theirs.keys() | ours.keys())
            if before == versions or name not in _TRACED
        ]
        other = [name for name in names if theirs.get(name) != ours.get(name)]
        if "model" in other:
            # Everything else follows from it.
            other = ["model"]
        if other:
            raise ValueError(
                f"fit: `checkpoint` holds another training: {self.folder} was written "
                f"with another {', '.join(other)}. Make the same call to go on with "
                "it; take another folder, or remove this one, to start anew."
            )
        if before != versions:
            changed = [
                f"{name} {before.get(name)}, now {version}"
                for name, version in versions.items()
                if before.get(name) != version
            ]
            warnings.warn(
                f"fit: the checkpoints in {self.folder} are of {'; '.join(changed)}. "
                "The training goes on, but perhaps not to the same bits.",
                stacklevel=4,
            )

    def latest(self) -> int | None:
        """The step of the last checkpoint that is whole, `None` for none."""
        self._manager.wait_until_finished()
        return self._manager.latest_step()

    def path(self) -> Path | None:
        """The folder of the last checkpoint, `None` for none."""
        step = self.latest()
        return None if step is None else self.folder / "steps" / str(step)

    def read(self) -> tuple[int, dict[str, Any]] | None:
        """The last checkpoint: its step and arrays, `None` for none.

        **Raises:** `ValueError` for one that is damaged.
        """
        import orbax.checkpoint as ocp

        step = self.latest()
        if step is None:
            return None
        try:
            found = self._manager.restore(step, args=ocp.args.StandardRestore())
        except Exception as error:
            # Orbax and TensorStore raise many kinds.
            raise ValueError(
                f"fit: the checkpoint {self.path()} is damaged: "
                f"{error}. Remove it to go on from the one before, or the whole of "
                f"{self.folder} to start anew."
            ) from error
        return step, dict(found)  # pyright: ignore

    def write(self, step: int, arrays: Mapping[str, Any]) -> None:
        """Keep the state after `step` steps; the writing goes on meanwhile."""
        import orbax.checkpoint as ocp

        if self.latest() != step:
            self._manager.save(step, args=ocp.args.StandardSave(dict(arrays)))

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def packed(tree: PyTree) -> dict[str, np.ndarray]:
    """The arrays of a pytree by number; Orbax takes none that are empty."""
    leaves = jtu.tree_leaves(eqx.filter(tree, eqx.is_array))
    return {str(k): _plain(leaf) for k, leaf in enumerate(leaves) if leaf.size}


def unpacked(arrays: Mapping[str, np.ndarray], like: PyTree) -> PyTree:
    """A pytree of the structure of `like` with the arrays of `packed`."""
    dynamic, static = eqx.partition(like, eqx.is_array)
    leaves, treedef = jtu.tree_flatten(dynamic)
    found = [
        _restored(arrays[str(k)], leaf) if leaf.size else leaf
        for k, leaf in enumerate(leaves)
    ]
    return eqx.combine(jtu.tree_unflatten(treedef, found), static)


def _plain(leaf: jax.Array) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jr.key_data(leaf)
    return np.asarray(leaf)


def _restored(array: np.ndarray, like: jax.Array) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(jnp.asarray(array), impl=jr.key_impl(like))
    return jnp.asarray(array, like.dtype)


def fingerprint(
    parts: Parts,
    optimizer: optax.GradientTransformation,
    optimizer_state: PyTree,
    source: ArrayBatches | StreamBatches,
    key: PRNGKeyArray,
    losses: Mapping[str, str],
    validation: PyTree,
) -> dict[str, str]:
    """What the result of a training depends on, by name."""
    shapes = jtu.tree_map(
        lambda x: f"{x.dtype}{x.shape}", (parts.parameters, parts.frozen)
    )
    update = jax.make_jaxpr(optax.with_extra_args_support(optimizer).update)
    size, data = "that of the iterable", described(source.example())
    if isinstance(source, ArrayBatches):
        size, data = str(source.size), arrays_text(source.arrays)
    try:
        traced = update(parts.parameters, optimizer_state, parts.parameters)
        operations = arrays_text((str(traced), traced.consts))
    except TypeError:
        # Those that take the value of the loss, too, are known by their state alone.
        operations = ""
    found = {
        "model": arrays_text((shapes, parts.static)),
        "start of the model": arrays_text((parts.parameters, parts.frozen)),
        "optimizer": f"{arrays_text(optimizer_state)} {operations}",
        "data": data,
        "batch size": size,
        "key": arrays_text(key),
        "validation data": arrays_text(validation),
        **losses,
    }
    return {name: digest([text]) for name, text in found.items()}
