"""Training a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import jax.tree_util as jtu
import optax
from jaxtyping import PRNGKeyArray, PyTree

from .._core import check_key, require_precision
from ._checkpoint import Checkpoints, fingerprint
from ._data import ArrayBatches, batches, check_finite, sample_arrays
from ._losses import starts_from_data
from ._result import Fit
from ._sharding import Devices, Placement
from ._step import Loss, Parts, check_loss, value_and_parts
from ._training import Standing, Training, loss_at


def fit(
    model: PyTree,
    data: Any,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int | None = None,
    key: PRNGKeyArray,
    trainable: Any = eqx.is_inexact_array,
    validation: PyTree = None,
    validation_loss: Loss | None = None,
    validate_every: int = 100,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    devices: Devices = None,
    progress: bool = False,
) -> Fit:
    """Train a model by gradient descent on a loss.

    Step $k$ takes a batch $b_k$ and a random key, and moves the parameters by what the
    optimizer makes of $\\nabla_\\theta\\,\\ell(\\theta_k, b_k)$.

    **Arguments:**

    - `model`: an Equinox module, or any pytree.
    - `data`: a pytree of arrays that share their first axis, that of the samples, from
        which batches are drawn without replacement, in a new order each epoch; or an
        iterable of batches, all of one shape.
    - `loss`: `loss(model, batch, key)`, a real scalar, or `(scalar, parts)` with
        scalars by name that the history is to keep. If it has a method `at`, step `k`
        uses `loss.at(k)`: that is how a horizon grows. Steps are compiled again when
        that differs by more than numbers in its arrays.
    - `optimizer`: any Optax gradient transformation.
    - `steps`: how many.
    - `batch_size`: for arrays; `None` takes all samples in every step.
    - `key`: a JAX random key, for the order of samples and for the loss.
    - `trainable`: what is trained, a filter of `equinox.partition`: a function of a
        leaf, or a pytree of booleans.
    - `validation`: a batch to validate on: arrays, taken all at once, always with the
        same key, the model in `equinox.nn.inference_mode`.
    - `validation_loss`: used for it; `loss`, as it is at the last step, unless given.
    - `validate_every`: so many steps, and after the last one.
    - `patience`: stop after so many validations without a new least loss.
    - `checkpoint`: a folder for checkpoints. If it holds one of this same call, the
        training goes on from there, to the same bits on the CPU; a larger `steps`
        prolongs it. From an iterable it passes over the batches already taken.
    - `checkpoint_every`: so many steps, and after the last one.
    - `devices`: a mesh, or devices, over which each batch is split along its first
        axis; parameters are on all of them. `None` leaves arrays where they are.
    - `progress`: whether to show a progress bar.

    **Returns:** a [`Fit`][hybrid_nds.training.Fit].

    **Raises:** `ValueError` or `TypeError` for bad input, naming the argument;
    [`TrainingError`][hybrid_nds.training.TrainingError] for a loss or parameters that
    are not finite; `KeyboardInterrupt` with a note, after a checkpoint.
    """
    counts: dict[str, Any] = {
        "steps": steps,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "patience": patience,
    }
    for name, count in counts.items():
        if name == "patience" and count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(
                f"fit: `{name}` must be an integer of at least 1, got {count!r}."
            )
    for given, value in (("patience", patience), ("validation_loss", validation_loss)):
        if value is not None and validation is None:
            raise ValueError(f"fit: `{given}` needs `validation`, a batch.")
    if not hasattr(optimizer, "init") or not hasattr(optimizer, "update"):
        raise TypeError(
            "fit: `optimizer` must be an Optax gradient transformation, such as "
            f"optax.adam(1e-3), got {optimizer!r}."
        )
    for path, leaf in jtu.tree_leaves_with_path(model):
        require_precision(f"fit: `model{jtu.keystr(path)}`", leaf)
    placement = Placement(devices)
    data_key, loss_key, validation_key = jr.split(check_key("fit", key), 3)
    parts = Parts.of(model, trainable)
    source = batches(data, batch_size, data_key, steps)
    example = source.example()
    placement.check(jtu.tree_leaves(example)[0].shape[0])
    if isinstance(source, ArrayBatches) and starts_from_data(loss_at(loss, 0)):
        check_finite("data", source.arrays)
    texts = {"loss": check_loss("loss", loss_at(loss, 0), model, example, loss_key)}
    judge = loss_at(loss, steps - 1) if validation_loss is None else validation_loss
    if validation is not None:
        validation, _ = sample_arrays("validation", validation)
        if starts_from_data(judge):
            check_finite("validation", validation)
        texts["validation loss"] = check_loss(
            "validation_loss" if validation_loss is not None else "loss",
            judge,
            eqx.nn.inference_mode(model),
            validation,
            validation_key,
        )
    parameters, frozen = placement.everywhere((parts.parameters, parts.frozen))
    parts = Parts(parameters, frozen, parts.static)
    optimizer_state = placement.everywhere(optimizer.init(parts.parameters))
    store = None
    if checkpoint is not None:
        identity = fingerprint(
            parts, optimizer, optimizer_state, source, key, texts, validation
        )
        store = Checkpoints(checkpoint, identity)
    if isinstance(source, ArrayBatches):
        source.arrays = placement.everywhere(source.arrays)
    training = Training(
        parts=parts,
        source=source,
        loss=loss,
        optimizer=optimizer,
        key=loss_key,
        validate=_validation(parts, judge, placement.split(validation), validation_key),
        placement=placement,
        store=store,
        **counts,
    )
    standing = Standing(0, parts.parameters, optimizer_state, parts.parameters)
    settings = {
        "loss": getattr(loss, "__qualname__", type(loss).__qualname__),
        "batch_size": source.size if isinstance(source, ArrayBatches) else None,
        **counts,
    }
    try:
        training.resume(standing)
        return training.run(progress, settings)
    finally:
        if store is not None:
            store.close()


def _validation(
    parts: Parts, loss: Loss, batch: PyTree, key: PRNGKeyArray
) -> Callable[[PyTree], Any] | None:
    """The validation loss by parameters, compiled."""
    if batch is None:
        return None
    arrays, static = eqx.partition(loss, eqx.is_array)

    @jax.jit
    def value(given: PyTree, batch: PyTree) -> Any:
        parameters, frozen, arrays = given
        model = eqx.combine(parameters, frozen, parts.static)
        found = eqx.combine(arrays, static)(eqx.nn.inference_mode(model), batch, key)
        return value_and_parts(found)[0]

    return lambda parameters: value((parameters, parts.frozen, arrays), batch)
