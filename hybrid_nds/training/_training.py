"""The course of a training: segments of steps, validations, checkpoints."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray, PyTree

from ..analysis import analysis_provenance, progress_bar
from ._checkpoint import Checkpoints, packed, unpacked
from ._data import ArrayBatches, StreamBatches
from ._history import Recorder
from ._result import Fit, TrainingError
from ._sharding import Placement
from ._step import Loss, Parts, Program, same

# Steps in one compiled loop: at most so many, and about so many seconds of them, so
# that interrupts and the progress bar need not wait.
_CAPACITY, _SECONDS = 256, 0.25
# Steps on batches of an iterable that are under way while the next is prepared.
_AHEAD = 2
_COUNTERS = ("best_step", "best_loss", "validated", "waited")


@dataclasses.dataclass(frozen=True)
class Standing:
    """How far a training has come: replaced whole, so that an interruption at any
    time finds one that is consistent."""

    step: int
    parameters: PyTree
    optimizer_state: PyTree
    best: PyTree
    best_step: int = 0
    best_loss: float = math.inf
    validated: int = 0
    waited: int = 0


def loss_at(loss: Loss, step: int) -> Loss:
    """The loss of a step, for losses that change."""
    at = getattr(loss, "at", None)
    return loss if at is None else at(step)


@dataclasses.dataclass
class Training:
    """What a training is made of; see [`fit`][hybrid_nds.training.fit]."""

    parts: Parts
    source: ArrayBatches | StreamBatches
    loss: Loss
    optimizer: optax.GradientTransformation
    key: PRNGKeyArray
    validate: Callable[[PyTree], Any] | None
    placement: Placement
    store: Checkpoints | None
    steps: int
    validate_every: int
    checkpoint_every: int
    patience: int | None

    def __post_init__(self) -> None:
        self._program: Program | None = None
        self._recorder = Recorder()
        self._segment = 1

    def resume(self, start: Standing) -> None:
        """Begin, or go on from the last checkpoint."""
        self._now = start
        found = None if self.store is None else self.store.read()
        if found is None:
            return
        step, arrays = found
        if step > self.steps:
            raise ValueError(
                f"fit: `checkpoint` holds {step} steps of this training, but `steps` "
                f"is {self.steps}. Ask for at least {step}, or take another folder."
            )
        trees = (start.parameters, start.optimizer_state, start.best)
        names = ("parameters", "optimizer", "best")
        self._now = Standing(
            step,
            *(
                self.placement.everywhere(unpacked(arrays.get(name, {}), like))
                for name, like in zip(names, trees, strict=True)
            ),
            **{name: arrays["counters"][name].item() for name in _COUNTERS},
        )
        self._recorder = Recorder(arrays.get("history"))
        if isinstance(self.source, StreamBatches) and step < self.steps:
            self.source.skip(step)

    def run(self, progress: bool, settings: dict[str, Any]) -> Fit:
        """Take all steps that are left."""
        try:
            with progress_bar(progress, "training", self.steps, self._now.step) as bar:
                while self._go_on():
                    bar(self._advance())
        except KeyboardInterrupt as stop:
            try:
                self._save()
            except Exception as error:
                # The interrupt may have come while Orbax was writing.
                stop.add_note(f"fit: the last steps could not be kept: {error}")
            stop.add_note(
                f"fit: interrupted after {self._now.step} steps; {self._kept()}"
            )
            raise
        now = self._now
        judged = self.validate is not None
        versions = {"optax": importlib.metadata.version("optax")}
        return Fit(
            model=self.parts.model(now.parameters),
            best_model=self.parts.model(now.best if judged else now.parameters),
            steps=now.step,
            best_step=now.best_step if judged else now.step,
            stopped_early=now.step < self.steps,
            history=self._recorder.history(now.step, now.validated),
            optimizer_state=now.optimizer_state,
            checkpoint=None if self.store is None else self.store.folder,
            settings=settings,
            provenance=analysis_provenance("jax", "fit", versions=versions),
        )

    def _go_on(self) -> bool:
        """Validate and keep what is due; whether there are steps left to take."""
        step = self._now.step
        last = step == self.steps
        if step > self._now.validated and (last or not step % self.validate_every):
            self._validate()
        last = last or (self.patience is not None and self._now.waited >= self.patience)
        if last or (step and not step % self.checkpoint_every):
            self._save()
        return not last

    def _validate(self) -> None:
        if self.validate is None:
            return
        now = self._now
        value = np.asarray(self.validate(now.parameters))
        self._recorder.validated(now.step, value)
        changes: dict[str, Any] = {"validated": now.step, "waited": now.waited + 1}
        if value < now.best_loss:
            changes |= {"best": now.parameters, "best_step": now.step}
            changes |= {"best_loss": float(value), "waited": 0}
        self._now = dataclasses.replace(now, **changes)

    def _save(self) -> None:
        now = self._now
        if self.store is None or not now.step:
            return
        arrays = {
            "parameters": packed(now.parameters),
            "optimizer": packed(now.optimizer_state),
            "best": packed(now.best),
            "counters": {name: np.asarray(getattr(now, name)) for name in _COUNTERS},
            "history": self._recorder.arrays(now.step, now.validated),
        }
        self.store.write(now.step, {name: x for name, x in arrays.items() if x})

    def _advance(self) -> int:
        """Take some steps; returns how many."""
        now = self._now
        count = self._count(now.step)
        loss = loss_at(self.loss, now.step)
        if loss is not self.loss:
            ahead = (k for k in range(1, count) if not same(self._loss(k), loss))
            count = next(ahead, count)
        program, fresh = self._program_of(loss)
        began = time.monotonic()
        take = self._from_arrays if program.drawn else self._from_stream
        try:
            state, losses, done = take(program, loss, count)
        except Exception as error:
            readable = _readable(error)
            upto = f"steps {now.step} to {now.step + count - 1}"
            where = upto if count > 1 else f"step {now.step}"
            readable.add_note(f"fit: raised in {where}; {self._kept()}")
            if readable is error:
                raise
            raise readable from None
        rows = min(done + 1, count)
        self._recorder.add(
            losses["loss"][:rows],
            {
                name.removeprefix("parts/"): values[:rows]
                for name, values in losses.items()
                if name != "loss"
            },
        )
        if done < count:
            self._fail(state, float(losses["loss"][done]), now.step + done)
        self._now = dataclasses.replace(
            now, step=now.step + done, parameters=state[0], optimizer_state=state[1]
        )
        # What was compiled on the way says nothing of how long steps take.
        if not fresh and time.monotonic() - began < _SECONDS:
            self._segment = min(2 * self._segment, _CAPACITY)
        return done

    def _loss(self, ahead: int) -> Loss:
        return loss_at(self.loss, self._now.step + ahead)

    def _count(self, step: int) -> int:
        """How many steps may be taken at once."""
        every = [self.validate_every] if self.validate is not None else []
        every += [self.checkpoint_every] if self.store is not None else []
        due = min([self.steps - step, *(n - step % n for n in every)])
        count = min(due, self._segment)
        if isinstance(self.source, ArrayBatches):
            count = min(count, self.source.limit(step, _CAPACITY))
        return count

    def _program_of(self, loss: Loss) -> tuple[Program, bool]:
        """The program of a loss, and whether it is yet to be compiled."""
        if self._program is not None and self._program.serves(loss):
            return self._program, False
        self._program = Program(
            self.parts,
            loss,
            self.optimizer,
            self.source if isinstance(self.source, ArrayBatches) else None,
            _CAPACITY,
            self.placement.spread,
        )
        return self._program, True

    def _from_arrays(self, program: Program, loss: Loss, count: int) -> Any:
        now = self._now
        state, losses, done = program.segment(
            loss, (now.parameters, now.optimizer_state), now.step, count, self.key
        )
        return state, {n: np.asarray(x) for n, x in losses.items()}, int(done)

    def _from_stream(self, program: Program, loss: Loss, count: int) -> Any:
        assert isinstance(self.source, StreamBatches)
        now = self._now
        state = (now.parameters, now.optimizer_state)
        good, goods, rows = self.placement.everywhere(jnp.array(True)), [], []
        for k in range(count):
            batch = self.placement.split(self.source.next())
            state, losses, good = program.one(
                loss, state, batch, now.step + k, good, self.key
            )
            goods.append(good)
            rows.append(losses)
            if k >= _AHEAD and not goods[k - _AHEAD]:
                break
        done = sum(map(bool, goods))
        losses = {n: np.array([row[n] for row in rows]) for n in rows[0]}
        return state, losses, done

    def _fail(self, state: Any, loss: float, step: int) -> None:
        """Stop at a step whose loss or update is not finite."""
        batch, which = None, f"batch {step} of `data`"
        if isinstance(self.source, ArrayBatches):
            batch = self.source.indices(step)
            few = ", ".join(map(str, batch[:8]))
            which = f"the batch of samples {few}{', …' if len(batch) > 8 else ''}"
        what = f"the loss is {loss}"
        if math.isfinite(loss):
            what = (
                f"the loss is {loss:.6g}, but parameters or the optimizer's state "
                "after it are not finite,"
            )
        raise TrainingError(
            f"fit: {what} at step {step}, {which}; {self._kept()} `model` of this "
            "error is the model before that step. Try a smaller learning rate, clip "
            "gradients (optax.clip_by_global_norm), take a loss in a unit of its own "
            "size (squares overflow), or look at the batch.",
            step=step,
            loss=loss,
            batch=batch,
            model=self.parts.model(state[0]),
            history=self._recorder.history(step + 1, self._now.validated),
            checkpoint=None if self.store is None else self.store.path(),
        )

    def _kept(self) -> str:
        """What of the training is on disk, as text."""
        if self.store is None:
            return "nothing is on disk, for there is no `checkpoint`."
        path = self.store.path()
        if path is None:
            return "there was no checkpoint yet."
        return f"the last good checkpoint is {path}: the same call goes on from it."


def _readable(error: Exception) -> Exception:
    """An error that `equinox.error_if` raised, without the pages JAX puts around it."""
    before, found, message = str(error).partition("_EquinoxRuntimeError: ")
    if not found or not before:
        return error
    return RuntimeError(message.partition("\n\n\n-----")[0])
