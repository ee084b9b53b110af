"""Models on disk: the same bits back, nothing run, and damage told."""

import functools
import json
import os
import struct
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import model_cases
import numpy as np
import pytest
import safetensors.numpy
from model_cases import CASES

import hybrid_nds
from hybrid_nds import double_precision, models
from hybrid_nds.models._saving_names import FUNCTIONS


def triple(x):
    return 3 * x


class Holder(eqx.Module):
    """Whatever a field may hold."""

    value: object
    word: str = eqx.field(static=True, default="word")


def bits(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), bits(jr.key_data(leaf))
    if isinstance(leaf, np.ndarray | np.generic | jax.Array):
        weak = getattr(leaf, "weak_type", None)
        return type(leaf), leaf.dtype, leaf.shape, weak, np.asarray(leaf).tobytes()
    return leaf


def assert_same(a, b):
    assert jtu.tree_structure(a) == jtu.tree_structure(b)
    pairs = zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True)
    for x, y in pairs:
        assert bits(x) == bits(y)


def there_and_back(model, path, **options):
    hybrid_nds.save(path, model)
    return hybrid_nds.load(path, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", CASES)
def test_every_model_comes_back_to_the_bit(name, path):
    model = CASES[name]()[0]
    assert_same(model, there_and_back(model, path, trust=model_cases))


VALUES = {
    "types": lambda: tuple(
        jnp.arange(-1, 5).reshape(2, 3).astype(name)
        for name in ("bool", "int8", "uint32", "int64", "float16", "bfloat16")
    ),
    "complex": lambda: (
        jnp.array([1 + 2j, -0.0 + 0j], jnp.complex64),
        jnp.array(1 - 1e-300j),
    ),
    "no elements, no axes": lambda: [jnp.zeros((0, 3)), jnp.array(2, jnp.bfloat16)],
    "bits of not-a-number": lambda: np.array([0x7FF8000000001234, 1 << 63]).view(float),
    "NumPy, order of Fortran": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "NumPy scalar": lambda: np.float32(0.1),
    "weak": lambda: (jnp.asarray(0.1), 2 * jnp.full((2, 2), 0.1)),
    "keys": lambda: jr.split(jr.key(3), 2),
    "key of rbg": lambda: jr.key(3, impl="rbg"),
    "numbers": lambda: [0.1, -0.0, float("inf"), 10**30, True, None, 1j, "ß\n"],
    "nested": lambda: {"a": (1, [2.0, {}]), "b": ()},
    "functions": lambda: [jnp.tanh, jax.nn.relu, jax.lax.rsqrt, jnp.add, jax.nn.gelu],
    "partial": lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.3),
    "types of numbers": lambda: [jnp.dtype("float32"), np.int16],
    "own function": lambda: triple,
    "residual networks": lambda: (
        models.ResNet(2, 3, 4, key=jr.key(0)),
        models.MeanFieldResNet(jnp.ones((2, 3, 2)), jnp.ones((2, 3, 2))),
    ),
    "module in module": lambda: Holder(eqx.nn.Linear(2, 2, key=jr.key(0)), "other"),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_as_they_were(name, path):
    model = Holder(VALUES[name]())
    again = there_and_back(model, path, trust=[Holder, triple])
    if name in ("partial", "types of numbers"):
        assert str(again.value) == str(model.value)
    else:
        assert_same(model, again)


def test_not_a_number_among_plain_numbers(path):
    assert np.isnan(there_and_back([float("nan")], path)[0])


def test_single_precision_stays_and_double_is_not_cut(path):
    with jax.enable_x64(False):
        single = models.NeuralODE(2, 4, key=jr.key(0))
        assert_same(single, there_and_back(single, path))
    assert_same(single, hybrid_nds.load(path))
    hybrid_nds.save(path, models.NeuralODE(2, 4, key=jr.key(0)))
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"weight` is float64, but JAX runs in 32"):
            hybrid_nds.load(path)
        with double_precision():
            assert hybrid_nds.load(path).network.layers[0].weight.dtype == float


def test_what_is_like_another_is_trusted(path):
    model = Holder(functools.partial(triple))
    hybrid_nds.save(path, model)
    assert hybrid_nds.load(path, model).value.func is triple
    with pytest.raises(ValueError, match=r"test_saving.Holder', which is unknown.*tru"):
        hybrid_nds.load(path)
    with pytest.raises(ValueError, match=r"value.func` is of the function.*triple'"):
        hybrid_nds.load(path, trust=Holder)


def test_a_shape_is_enough_to_compare_with(path):
    model = models.NeuralODE(2, 4, key=jr.key(0))
    shape = eqx.filter_eval_shape(models.NeuralODE, 2, 4, key=jr.key(0))
    hybrid_nds.save(path, model)
    assert_same(hybrid_nds.load(path, shape), model)


@pytest.mark.parametrize(
    ("like", "match"),
    [
        (lambda: models.NeuralODE(2, 5, key=jr.key(0)), r"shape \(4, 2\).*\(5, 2\)"),
        (
            lambda: models.NeuralODE(2, 4, key=jr.key(0), dtype=jnp.float32),
            "float64, but.*float32",
        ),
        (lambda: models.Lorenz(), "network.layers.*nothing"),
        (
            lambda: models.NeuralODE(2, 4, activation=jax.nn.relu, key=jr.key(0)),
            "activation` in .*tanh.*relu",
        ),
        (lambda: models.AugmentedNeuralODE(1, 1, 4, key=jr.key(0)), "structure"),
    ],
)
def test_a_model_unlike_the_other_is_refused(like, match, path):
    hybrid_nds.save(path, models.NeuralODE(2, 4, key=jr.key(0)))
    with pytest.raises(ValueError, match=match):
        hybrid_nds.load(path, like())


def test_a_class_that_moved_is_found_by_its_old_name(path):
    hybrid_nds.save(path, Holder(1.0))
    change(path, lambda text, arrays: text.replace("test_saving.Holder", "__main__.H"))
    with pytest.raises(ValueError, match=r"'__main__\.H', which is unknown"):
        hybrid_nds.load(path, trust=Holder)
    assert hybrid_nds.load(path, trust={"__main__.H": Holder}) == Holder(1.0)


def test_public_names_are_written(path):
    hybrid_nds.save(path, CASES["NeuralODE, of time"]()[0])
    with safetensors.safe_open(path, "numpy") as file:
        text, names = file.metadata()["hybrid_nds"], set(file.keys())
    for name in ("hybrid_nds.models.NeuralODE", "equinox.nn.MLP", "jax.nn.softplus"):
        assert f'"{name}"' in text
    assert "network.layers[0].weight" in names
    assert json.loads(text)["versions"]["equinox"] == eqx.__version__


def local_class():
    class Local(eqx.Module):
        pass

    return Local()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (lambda: lambda x: x, r"`model.value` is a function .*lambda.*made within"),
        (lambda: [0, {"a": object()}], r"`model.value\[1\]\['a'\]` is a value that"),
        (local_class, r"`model.value` is of class .*Local.*no module has it"),
        (lambda: np.zeros(2, ">f8"), r"dtype >f8"),
        (lambda: np.zeros(2, "U3"), r"dtype <U3"),
    ],
)
def test_what_cannot_be_saved_is_named(value, match, path):
    with pytest.raises(TypeError, match=match):
        hybrid_nds.save(path, Holder(value()))
    assert not path.exists()


def test_a_traced_model_is_refused(path):
    with pytest.raises(TypeError, match=r"`model.value` is traced"):
        jax.jit(lambda x: hybrid_nds.save(path, Holder(x)))(1.0)


def change(path, edit):
    """Write a file anew with its description, or its arrays, edited."""
    with safetensors.safe_open(path, "numpy") as file:
        text = file.metadata()["hybrid_nds"]
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = edit(text, arrays) or text
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"hybrid_nds": text}))


def rename(old, new):
    def edit(text, arrays):
        assert old in text
        return text.replace(old, new)

    return edit


def reshape(text, arrays):
    arrays["sigma"] = arrays["sigma"][None]


def halve(text, arrays):
    arrays["sigma"] = arrays["sigma"].astype(np.float32)


LORENZ = '"hybrid_nds.models.Lorenz"'
DAMAGE = {
    "newer": (rename('"format": 2', '"format": 3'), "format 3.*Update hybrid_nds"),
    "missing": (lambda t, a: a.pop("rho") and None, "lacks arrays.*: rho"),
    "extra": (lambda t, a: a.update(b=np.zeros(1)), "extra arrays.*: b"),
    "shape": (reshape, r"`model.sigma` must be an array of shape \(\).*shape \(1,\)"),
    "dtype": (halve, r"`model.sigma` must be .*float64.*float32"),
    "field": (rename('"rho":', '"rh":'), "fields rh, which the class has not"),
    "no JSON": (rename('{"format"', '"format"'), "cannot be read"),
    "no node": (rename('"class":', '"klass":'), "makes no sense"),
    "no dtype": (rename('"float64"', '"floating"'), "makes no sense"),
    "unknown": (rename(LORENZ, '"hybrid_nds.models.Lawrence"'), "is unknown"),
    "no class": (rename(LORENZ, '"hybrid_nds.models.tanh_unit"'), "no Equinox"),
    "abstract": (rename(LORENZ, '"hybrid_nds.models.ContinuousModel"'), "abstract"),
    "foreign": (rename(LORENZ, '"os.system"'), "is unknown"),
    "through": (rename(LORENZ, '"hybrid_nds._core._files.os.system"'), "is unknown"),
    "not loaded": (rename(LORENZ, '"hybrid_nds.nowhere.Model"'), "is unknown"),
    "deep": (lambda t, a: '{"format":2,"versions":{},"model":' + "[" * 10**5, "read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told(name, path):
    edit, match = DAMAGE[name]
    hybrid_nds.save(path, models.Lorenz(10.0, 28.0, 2.0))
    change(path, edit)
    with pytest.raises(ValueError, match=match):
        hybrid_nds.load(path)


# What must never come out of a file: what reads, writes or runs something, what calls
# what it is given, and what asks for memory at will; by public names, by those of the
# modules where it is made, and through what a module has merely imported.
NEVER = (
    "os.system os.remove os.posix_spawn posix.system subprocess.Popen subprocess.run "
    "builtins.eval builtins.exec builtins.open builtins.compile builtins.__import__ "
    "builtins.getattr builtins.breakpoint importlib.import_module runpy.run_path "
    "shutil.rmtree pathlib.Path.unlink ctypes.CDLL pickle.loads cloudpickle.loads "
    "functools.partial operator.attrgetter operator.methodcaller sys.exit "
    "socket.socket webbrowser.open threading.Thread "
    "jax.numpy.save jax.numpy.savez jax.numpy.load jax.numpy.fromfile "
    "jax.numpy.fromfunction jax.numpy.frombuffer jax.numpy.apply_along_axis "
    "jax.numpy.vectorize jax.numpy.piecewise jax.numpy.frompyfunc jax.numpy.zeros "
    "jax.numpy.ones jax.numpy.full jax.numpy.arange jax.numpy.tile jax.numpy.repeat "
    "jax.numpy.np.save jax._src.numpy.lax_numpy.save jax._src.numpy.lax_numpy.np.save "
    "numpy.save numpy.load numpy.memmap numpy.fromfile numpy.ndarray.tofile "
    "jax.lax.cond jax.lax.switch jax.lax.while_loop jax.lax.fori_loop jax.lax.scan "
    "jax.lax.map jax.lax.reduce jax.lax.custom_root jax.lax.infeed jax.lax.outfeed "
    "jax.lax.psum jax.lax.ppermute jax.lax.all_gather jax.lax.create_token "
    "jax.lax.after_all jax.lax.iota jax.lax.full jax.lax.rng_uniform "
    "jax.pure_callback jax.experimental.io_callback jax.io_callback "
    "jax.experimental.io_callback.io_callback jax._src.callback.io_callback "
    "jax._src.callback.pure_callback jax.debug.callback jax.debug.print "
    "jax.debug.breakpoint jax._src.debugging.debug_callback jax.jit jax.device_put "
    "jax.config.update jax.profiler.start_trace jax.ffi.ffi_call jax.nn.initializers "
    "jax.nn.initializers.zeros jax.nn.dot_product_attention jax.nn.one_hot "
    "jax.nn.jax.device_put jax.scipy.special.jnp.save jax.nn.os.system "
    "equinox.tree_serialise_leaves equinox.tree_deserialise_leaves equinox.filter_jit "
    "equinox.debug.breakpoint_if equinox.filter_pure_callback equinox.error_if "
    "equinox.internal.while_loop equinox.nn.make_with_state equinox.nn.inference_mode "
    "diffrax.diffeqsolve hybrid_nds.save hybrid_nds.load hybrid_nds.solve "
    "hybrid_nds.ensemble hybrid_nds.JuliaWorker hybrid_nds.models.order_parameter "
    "hybrid_nds.models._saving.save hybrid_nds.models._saving.os.remove "
    "hybrid_nds.models._neural_ode.jax.jit hybrid_nds.models._x.y "
    "hybrid_nds._core.atomic_file hybrid_nds._core.write_text "
    "hybrid_nds.runtime.session hybrid_nds.lowering.register_rule "
    "test_saving.triple "
).split()


@pytest.mark.parametrize("as_class", [False, True])
def test_functions_that_do_things_are_out_of_reach(as_class, path):
    hybrid_nds.save(path, [jnp.tanh])
    original = path.read_bytes()
    node = '{"class": "%s", "fields": {}}' if as_class else '{"function": "%s"}'
    for name in NEVER:
        path.write_bytes(original)
        change(path, rename('{"function": "jax.numpy.tanh"}', node % name))
        with pytest.raises(ValueError, match=r"is unknown|no Equinox module"):
            hybrid_nds.load(path)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_any_file_may_name_are_functions_of_arrays(name):
    # Each traces to primitives without an effect, and to one array of no more numbers.
    assert name not in NEVER
    x = jnp.array([0.25, 0.5])
    choices = [(x,), (x, x), (x, x, x), (jnp.ones(4), x)]
    for arguments in choices:
        try:
            traced, shape = jax.make_jaxpr(FUNCTIONS[name], return_shape=True)(
                *arguments
            )
        except TypeError:  # It takes more.
            continue
        assert not traced.effects
        assert shape.shape in ((2,), ())
        return
    pytest.fail("it takes no arrays")


def with_model(text, node):
    return json.dumps(json.loads(text) | {"model": node})


class Trap(eqx.Module):
    """A class that runs code when one is made, and when one is let go."""

    rate: float

    def __new__(cls, *args):
        raise SystemExit("made")

    def __init__(self, rate):
        raise SystemExit("initialized")

    def __check_init__(self):
        raise SystemExit("checked")

    def __setattr__(self, name, value):
        raise SystemExit("set")


class NoModule:
    def __new__(cls, *args):
        raise SystemExit("made")


def test_classes_run_no_code_on_a_file_s_word(path):
    hybrid_nds.save(path, Holder(1.0))
    original = path.read_bytes()
    trap = '{"class": "test_saving.Trap", "fields": {"rate": 1.0}}'
    change(path, lambda text, arrays: with_model(text, json.loads(trap)))
    with pytest.raises(ValueError, match="Trap', which is unknown"):
        hybrid_nds.load(path)
    assert hybrid_nds.load(path, trust=[Trap]).rate == 1.0
    # Even of what is trusted, only modules are made.
    path.write_bytes(original)
    change(path, rename("test_saving.Holder", "test_saving.NoModule"))
    with pytest.raises(ValueError, match="no Equinox module"):
        hybrid_nds.load(path, trust=[NoModule])


# Classes of these packages that are no models, and of others.
CLASSES = "diffrax.Tsit5 diffrax.ODETerm equinox.internal.noinline equinox.Module "
CLASSES += "equinox._jit._JitWrapper equinox.nn._mlp.eqx.Module optimistix.Newton "
CLASSES += "hybrid_nds.models.ContinuousModel hybrid_nds.models._base.eqx.nn.MLP "
CLASSES += "hybrid_nds.JuliaWorker hybrid_nds.Solution hybrid_nds.models"


@pytest.mark.parametrize("name", CLASSES.split())
def test_classes_that_are_no_models_are_refused(name, path):
    hybrid_nds.save(path, models.Lorenz(10.0, 28.0, 2.0))
    change(path, rename("hybrid_nds.models.Lorenz", name))
    # Known or not, as something has imported it or not.
    refusal = r"is unknown|no Equinox module|no model here|is abstract"
    with pytest.raises(ValueError, match=refusal):
        hybrid_nds.load(path)


def test_nothing_is_imported_on_a_file_s_word(path, tmp_path):
    (tmp_path / "trap.py").write_text("raise SystemExit('sprung')")
    hybrid_nds.save(path, models.Lorenz())
    change(path, rename(LORENZ, '"trap.Model"'))
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import hybrid_nds
        try:
            hybrid_nds.load({str(path)!r})
        except ValueError as error:
            assert "'trap.Model', which is unknown" in str(error), error
        else:
            raise AssertionError
        assert "trap" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_files_that_are_none_of_ours(path):
    with pytest.raises(FileNotFoundError, match=r"no file .*model\.safetensors"):
        hybrid_nds.load(path)
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(1)}))
    with pytest.raises(ValueError, match=r"not written by hybrid_nds\.save"):
        hybrid_nds.load(path)
    hybrid_nds.save(path, models.Lorenz())
    whole = path.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for cut in (0, 5, header // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="no safetensors file, or damaged"):
            hybrid_nds.load(path)


def test_a_write_that_fails_leaves_what_was_there(path, monkeypatch):
    hybrid_nds.save(path, [1.0])
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        hybrid_nds.save(path, [2.0])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("trust", [3, [models.Lorenz, "name"], lambda x: x])
def test_trust_is_checked(trust, path):
    with pytest.raises(TypeError, match="`trust` must hold modules, and classes"):
        hybrid_nds.load(path, trust=trust)


def _altered(node):
    """Every node of a description in turn, replaced by what it must not be."""
    yield from (None, 3, [[1]], {"class": 3})
    if not isinstance(node, dict | list):
        return
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
        for changed in _altered(inner):
            copy = dict(node) if isinstance(node, dict) else list(node)
            copy[key] = changed
            yield copy


def test_whatever_a_description_holds_the_error_is_told(path):
    hybrid_nds.save(path, {"a": models.Lorenz(), "b": [jnp.tanh, (1, "x", 2.5)]})
    original = path.read_bytes()
    with safetensors.safe_open(path, "numpy") as file:
        text = file.metadata()["hybrid_nds"]
    model = json.loads(text)["model"]
    refused = 0
    for altered in _altered(model):
        path.write_bytes(original)
        new = json.dumps(json.loads(text) | {"model": altered})
        change(path, lambda old, arrays, new=new: new)
        try:
            hybrid_nds.load(path)
        except ValueError as error:
            refused += str(error).startswith("load: ")
    assert refused > 40


def test_a_cut_or_a_stray_byte_is_told(path):
    hybrid_nds.save(path, models.Lorenz())
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"load: .*model\.safetensors"):
            hybrid_nds.load(path)
    # In the header; among the numbers any byte is another number.
    for place in range(0, len(whole) - 24, 23):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with pytest.raises(ValueError, match="load: "):
            hybrid_nds.load(path)
