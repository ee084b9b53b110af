"""Training against loops written out in NumPy, and what it refuses."""

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from hybrid_nds import double_precision
from hybrid_nds.training import TrainingError, TrajectoryLoss, fit

KEY = jr.key(5)
# Adam mixes dtypes itself.
MOMENTUM = optax.sgd(0.1, momentum=0.9)
X = np.random.default_rng(1).normal(size=(12, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1


class Linear(eqx.Module):
    weight: jax.Array
    bias: jax.Array
    name: str = eqx.field(static=True, default="linear")

    def __call__(self, x):
        return x @ self.weight + self.bias


def linear(dtype=float):
    return Linear(jnp.zeros(3, dtype), jnp.zeros((), dtype))


def squares(model, batch, key):
    x, y = batch
    return jnp.mean((model(x) - y) ** 2)


def slide(model, batch, key):
    """A loss whose gradient is one: steps of the learning rate downward."""
    return model["w"] + 0 * jnp.mean(batch)


def small(**changes):
    given = {"steps": 3, "key": KEY} | changes
    model = given.pop("model", linear())
    data = given.pop("data", (X, Y))
    loss = given.pop("loss", squares)
    return fit(model, data, loss, given.pop("optimizer", optax.sgd(0.1)), **given)


def test_gradient_descent_on_all_samples():
    done = small(steps=300)
    weight, bias, losses = np.zeros(3), 0.0, []
    for _ in range(300):
        error = X @ weight + bias - Y
        losses.append(np.mean(error**2))
        weight = weight - 0.1 * 2 * X.T @ error / 12
        bias = bias - 0.1 * 2 * error.mean()
    # Round-off of 300 contracting steps on numbers of order one.
    np.testing.assert_allclose(done.history.loss, losses, rtol=0, atol=1e-13)
    np.testing.assert_allclose(done.model.weight, weight, atol=1e-13)
    np.testing.assert_allclose(done.model.bias, bias, atol=1e-13)
    assert done.best_model is not None
    assert (done.steps, done.best_step, done.stopped_early) == (300, 300, False)
    np.testing.assert_array_equal(done.history.steps, np.arange(300))


@pytest.mark.parametrize(("samples", "size"), [(12, 4), (14, 4), (300, 1)])
def test_batches_take_each_sample_once_an_epoch(samples, size):
    """Also where a segment of compiled steps is shorter than an epoch, of 300."""

    def seen(model, batch, key):
        return model["w"], {str(k): batch[k] for k in range(size)}

    epoch = samples // size
    done = small(
        model={"w": jnp.zeros(())},
        data=np.arange(samples),
        loss=seen,
        batch_size=size,
        steps=3 * epoch,
    )
    taken = np.stack([done.history.parts[str(k)] for k in range(size)], 1)
    epochs = taken.reshape(3, epoch * size)
    for one in epochs:
        assert len(np.unique(one)) == epoch * size
    assert set(epochs.ravel()) == set(range(samples))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_random_loss_has_a_new_key_each_step():
    def noise(model, batch, key):
        return model["w"] + jr.normal(key)

    model = {"w": jnp.zeros(())}
    done = small(model=model, data=X, loss=noise, steps=400, optimizer=optax.sgd(0.0))
    assert len(np.unique(done.history.loss)) == 400
    # Within four standard errors: fails for one key in 16000, and the key is fixed.
    assert abs(done.history.loss.mean()) < 4 / 20
    again = small(model=model, data=X, loss=noise, steps=400, optimizer=optax.sgd(0.0))
    np.testing.assert_array_equal(done.history.loss, again.history.loss)


def test_validation_keeps_the_best_model_and_stops_early():
    """From 1 downward by 0.01 a step; the least validation is at 0.5, after 50."""

    def apart(model, batch, key):
        return (model["w"] - 0.5) ** 2

    done = small(
        model={"w": jnp.ones(())},
        data=X,
        loss=slide,
        optimizer=optax.sgd(0.01),
        steps=1000,
        validation=X,
        validation_loss=apart,
        validate_every=10,
        patience=3,
    )
    assert (done.steps, done.best_step, done.stopped_early) == (80, 50, True)
    np.testing.assert_allclose(done.best_model["w"], 0.5, atol=1e-14)
    np.testing.assert_allclose(done.model["w"], 0.2, atol=1e-14)
    at = np.arange(10, 81, 10)
    np.testing.assert_array_equal(done.history.validation_steps, at)
    expected = (0.5 - 0.01 * at) ** 2
    np.testing.assert_allclose(done.history.validation_loss, expected, atol=1e-14)
    assert len(done.history) == 80


def test_validation_is_of_the_whole_batch_without_dropout():
    class Dropped(eqx.Module):
        scale: jax.Array
        dropout: eqx.nn.Dropout

    def loss(model, batch, key):
        return model.scale * jnp.mean(model.dropout(batch, key=key))

    model = Dropped(jnp.ones(()), eqx.nn.Dropout(0.5))
    done = small(
        model=model,
        data=np.ones(6),
        loss=loss,
        optimizer=optax.sgd(0.0),
        validation=np.arange(10.0),
    )
    np.testing.assert_allclose(done.history.validation_loss, [4.5], rtol=1e-15)
    assert not done.model.dropout.inference


class Loader:
    """Batches in a fixed order, that can be gone through again."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def endless(*shapes):
    return Loader([np.ones(shape) for shape in shapes])


def test_an_iterable_gives_the_steps_of_a_loop():
    parts = [(X[k : k + 4], Y[k : k + 4]) for k in (0, 4, 8)]
    done = small(data=Loader(parts), steps=7)
    weight, bias, losses = np.zeros(3), 0.0, []
    for k in range(7):
        x, y = parts[k % 3]
        error = x @ weight + bias - y
        losses.append(np.mean(error**2))
        weight = weight - 0.1 * 2 * x.T @ error / 4
        bias = bias - 0.1 * 2 * error.mean()
    np.testing.assert_allclose(done.history.loss, losses, rtol=1e-13)
    np.testing.assert_allclose(done.model.weight, weight, rtol=1e-13)
    taken = iter(parts * 3)
    np.testing.assert_array_equal(
        small(data=taken, steps=7).history.loss, done.history.loss
    )
    assert len(list(taken)) == 2, "no batch is taken that no step needs"


def test_losses_that_change_with_the_step():
    traced = []

    class Growing(eqx.Module):
        weight: jax.Array
        length: int = eqx.field(static=True, default=1)

        def at(self, step):
            return Growing(jnp.asarray(float(step)), 1 + step // 4)

        def __call__(self, model, batch, key):
            traced.append(self.length)
            return self.weight * model["w"], {"length": jnp.asarray(self.length)}

    done = small(
        model={"w": jnp.ones(())},
        data=X,
        loss=Growing(jnp.zeros(())),
        optimizer=optax.sgd(0.5),
        steps=12,
    )
    np.testing.assert_array_equal(done.history.parts["length"], np.repeat([1, 2, 3], 4))
    w = 1.0
    for k in range(12):
        assert done.history.loss[k] == k * w
        w -= 0.5 * k
    # Numbers alone compile nothing: as many traces for each length.
    assert traced.count(2) == traced.count(3)


def test_only_what_is_trainable_moves():
    model = linear()
    chosen = Linear(True, False)
    done = small(trainable=chosen, model=model)
    assert np.all(done.model.weight != 0)
    assert done.model.bias == 0


def test_complex_parameters_go_downhill():
    """|z − (1+2i)|² falls by (1 − 2·0.1)² a step of gradient descent."""

    def loss(model, batch, key):
        return jnp.abs(model["z"] - (1 + 2j)) ** 2

    done = small(model={"z": jnp.zeros((), complex)}, data=X, loss=loss, steps=10)
    np.testing.assert_allclose(done.history.loss, 5 * 0.8 ** (2 * np.arange(10)))


def test_optimizers_that_take_more_than_gradients():
    done = small(optimizer=optax.lbfgs(), steps=30)
    solution = np.linalg.lstsq(np.c_[X, np.ones(12)], Y, rcond=None)[0]
    np.testing.assert_allclose(done.model.weight, solution[:3], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept(dtype, strict_promotion):
    model = linear(dtype)
    done = small(
        model=model, data=(X.astype(dtype), Y.astype(dtype)), optimizer=MOMENTUM
    )
    assert done.model.weight.dtype == dtype
    assert done.history.loss.dtype == dtype


def test_a_fit_shows_itself(tmp_path):
    def loss(model, batch, key):
        value = squares(model, batch, key)
        return value, {"norm": jnp.sum(model.weight**2)}

    done = small(loss=loss, steps=40, validation=(X, Y), validate_every=20)
    data = done.to_xarray()
    np.testing.assert_array_equal(data["norm"], done.history.parts["norm"])
    np.testing.assert_array_equal(data["validation_step"], [20, 40])
    table = done.history.table(rows=4)
    assert [column.header for column in table.columns] == [
        "step",
        "loss",
        "validation",
        "norm",
    ]
    assert list(table.columns[0].cells) == ["9", "19", "29", "39"]
    cells = list(table.columns[2].cells)
    assert cells[0] == ""
    assert cells[1:3] == [f"{done.history.validation_loss[0]:.6g}"] * 2
    assert f"{done.history.loss[-1]:.6g}" in str(done.history)
    assert "40 steps" in str(done)
    done.plot(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").stat().st_size > 1000


def test_a_loss_that_is_not_finite_stops_at_its_step():
    y = Y.copy()
    y[7] = np.nan
    with pytest.raises(TrainingError, match="the loss is nan at step") as failure:
        small(data=(X, y), batch_size=2, steps=60)
    error = failure.value
    assert 7 in error.batch
    assert error.step < 6
    assert "no `checkpoint`" in str(error)
    if error.step:
        before = small(data=(X, y), batch_size=2, steps=error.step)
        assert eqx.tree_equal(error.model, before.model)
        np.testing.assert_array_equal(
            error.history.loss[: error.step], before.history.loss
        )
    assert np.isnan(error.history.loss[error.step])


def test_an_optimizer_whose_squares_overflow_stops():
    # Gradients of 1e30 have squares of 1e60, by which Adam would divide and stand.
    model = linear("float32")
    data = (X.astype("float32"), Y.astype("float32"))
    with pytest.raises(TrainingError, match="optimizer's state after it are not fini"):
        small(
            model=model,
            data=data,
            loss=lambda model, batch, key: 1e30 * squares(model, batch, key),
            optimizer=optax.adam(0.1),
            steps=3,
        )


def test_a_gradient_that_is_not_finite_stops_at_its_step():
    """The square root of |w| is finite at 0, its slope is not."""

    def loss(model, batch, key):
        return jnp.sqrt(jnp.sum((model["w"] - batch[0]) ** 2))

    model = {"w": jnp.zeros(2)}
    data = iter([np.ones((2, 2)), np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 2))])
    with pytest.raises(TrainingError, match="state after it are not finite") as e:
        small(model=model, data=data, loss=loss, steps=4, optimizer=optax.sgd(0.0))
    assert (e.value.step, e.value.batch) == (1, None)
    np.testing.assert_array_equal(e.value.model["w"], 0.0)


@pytest.mark.parametrize("data", [X, endless((12, 3))], ids=["arrays", "iterable"])
def test_errors_of_a_solve_say_where_they_come_from(data):
    def loss(model, batch, key):
        return eqx.error_if(model["w"], model["w"] < 0.75, "below the line")

    with pytest.raises(RuntimeError, match="below the line") as failure:
        small(model={"w": jnp.ones(())}, data=data, loss=loss, steps=9)
    assert any("fit: raised in step" in note for note in failure.value.__notes__)


def matrix_loss(model, batch, key):
    return (model(batch[0]) - batch[1]) ** 2


BAD = {
    "not scalar": (
        {"loss": matrix_loss},
        r"must return a real scalar.*\(12,\)",
    ),
    "complex": ({"loss": lambda m, b, k: m.bias * 1j}, "complex128"),
    "integer": ({"loss": lambda m, b, k: jnp.asarray(1)}, "has dtype int"),
    "part": (
        {"loss": lambda m, b, k: (m.bias, {"error": b[1]})},
        "part 'error' has shape",
    ),
    "pair": ({"loss": lambda m, b, k: (m.bias, m.weight)}, "must return a real scalar"),
    "no loss": ({"loss": 3.0}, "`loss` must be callable"),
    "optimizer": ({"optimizer": 0.1}, "`optimizer` must be an Optax"),
    "steps": ({"steps": 0}, "`steps` must be an integer of at least 1, got 0"),
    "patience": ({"patience": 2}, "`patience` needs `validation`"),
    "batch size": ({"batch_size": 13}, "from 1 to the 12 samples"),
    "key": ({"key": 3}, "fit: `key` must be one random key"),
    "lengths": ({"data": (X, Y[:5])}, "must share a first axis.*: 12.*: 5"),
    "no axis": ({"data": (X, np.array(1.0))}, "must have a first axis"),
    "list": ({"data": [X, Y]}, "`data` is a list of arrays"),
    "no data": ({"data": 3}, "`data` must be a pytree of arrays"),
    "sized": ({"data": iter([X]), "batch_size": 3}, "Leave `batch_size` out"),
    "ends": ({"data": iter([(X, Y)] * 2)}, "ended after 2 batches"),
    "empty": ({"data": Loader([])}, "ended after 0 batches"),
    "ragged": (
        {
            "data": endless((4, 3), (3, 3)),
            "loss": lambda m, b, k: jnp.mean(m(b)),
        },
        r"batch 1 of `data` is float64\[3,3\], but .*float64\[4,3\]",
    ),
    "no parameters": ({"model": {"n": 3}}, "no arrays of floating-point numbers"),
    "trainable": (
        {"trainable": lambda leaf: True, "model": {"n": jnp.arange(3)}},
        "`trainable` chooses",
    ),
    "devices": ({"devices": ["gpu"]}, "`devices` must be"),
    "validation": ({"validation": (X, Y[:3])}, "arrays of `validation` must share"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(what):
    changes, message = BAD[what]
    with pytest.raises((ValueError, TypeError), match=message):
        small(**changes)


def test_a_batch_the_model_cannot_take():
    with pytest.raises(TypeError) as failure:
        small(data=(X[:, :2], Y))
    assert "on a batch of float64[12,2], float64[12]" in failure.value.__notes__[-1]


def test_double_precision_is_not_cut_silently():
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"`data`\[0\] is float64"),
    ):
        small(model={"w": np.ones(3, np.float32)})
    with double_precision():
        assert small().history.loss.dtype == np.float64


@pytest.mark.slow
def test_a_mesh_splits_the_batch(tmp_path):
    """The same losses on two devices; a batch that they do not divide is refused."""
    program = """
        import sys, jax, numpy as np, optax, pytest
        import test_training_fit as cases
        jax.config.update("jax_enable_x64", True)
        assert len(jax.devices()) == 2
        seen = []

        def loss(model, batch, key):
            jax.debug.inspect_array_sharding(batch[0], callback=seen.append)
            return cases.squares(model, batch, key)

        given = {"loss": loss, "steps": 20, "batch_size": 4}
        one = cases.small(**given)
        assert all(len(sharding.device_set) == 1 for sharding in seen)
        seen.clear()
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
        loader = cases.Loader([(cases.X[:4], cases.Y[:4])] * 2)
        for devices in (jax.devices(), mesh):
            two = cases.small(**given, devices=devices, validation=(cases.X, cases.Y))
            np.testing.assert_allclose(two.history.loss, one.history.loss, rtol=1e-12)
            assert len(two.model.weight.sharding.device_set) == 2
        assert any(s.shard_shape((4, 3)) == (2, 3) for s in seen), seen
        cases.small(data=loader, devices=mesh)
        kept = {"devices": mesh, "steps": 20, "batch_size": 4}
        cases.small(**kept | {"steps": 9}, checkpoint=sys.argv[1])
        two = cases.small(**kept, checkpoint=sys.argv[1])
        one = cases.small(**kept)
        np.testing.assert_array_equal(two.history.loss, one.history.loss)
        assert len(two.model.weight.sharding.device_set) == 2
        with pytest.raises(ValueError, match="2 `devices` do not divide a batch of 3"):
            cases.small(batch_size=3, devices=mesh)
    """
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        cwd=Path(__file__).parent,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_progress_counts_all_steps(monkeypatch):
    bars = []

    @contextlib.contextmanager
    def bar(shown, title, total, done):
        bars.append([shown, total, done])
        yield bars[-1].append

    monkeypatch.setattr("hybrid_nds.training._training.progress_bar", bar)
    small(steps=40, progress=True)
    ((shown, total, done, *counts),) = bars
    assert (shown, total, done, sum(counts)) == (True, 40, 0, 40)


@pytest.mark.slow
def test_orbax_is_imported_by_checkpoints_alone():
    program = """
        import sys
        import hybrid_nds
        hybrid_nds.training.fit
        assert "orbax" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


class Decay(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


@pytest.mark.parametrize("where", ["data", "validation"])
def test_trajectories_that_are_not_finite_are_refused_before_the_work(where):
    paths = np.ones((5, 2, 1))
    broken = paths.copy()
    broken[3, 0] = np.nan
    given = {"data": paths, "validation": paths} | {where: broken}
    model = Decay(jnp.ones(()))
    loss = 0.5 * TrajectoryLoss([0.0, 1.0], dt=0.5, solver="Euler")
    with pytest.raises(ValueError, match=f"`{where}` must be finite, but sample 3 "):
        fit(model, loss=loss, optimizer=MOMENTUM, steps=1, key=KEY, **given)
