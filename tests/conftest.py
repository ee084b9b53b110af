"""Double precision throughout, and the live Julia where one is configured."""

import contextlib
import ctypes
import gc
import os
import random
import signal
import sys
from importlib.metadata import version
from pathlib import Path

# Compiling is most of what a run does; LLVM's passes, and the emitters of fused loops,
# are most of it. Without them operations are rounded as before; only which product and
# sum become one instruction may differ. Before XLA reads its flags, of which it takes
# no unknown one: those of versions that are known to have them.
LEVEL = "--xla_backend_optimization_level"
if LEVEL not in (flags := os.environ.get("XLA_FLAGS", "")):
    flags += f" {LEVEL}=0"
    if (0, 8) <= tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):
        flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = flags.lstrip()

import compilation_cache  # noqa: E402
import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
# Traces are many small objects that live; looking through them all finds little.
gc.set_threshold(50_000, 20, 50)


@contextlib.contextmanager
def _unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


# With this variable the annotations' shapes and types are checked at every call of the
# package, which must be imported after this; for a fifth of the time and more.
if os.environ.get("HYBRID_NDS_CHECK_TYPES"):
    jaxtyping.install_import_hook("hybrid_nds", "type_checker.check")
    expected = pytest.raises

    @contextlib.contextmanager
    def raises(*args, **kwargs):
        """As pytest's, and within it arguments may be of a wrong type: what is tested
        is the error of a user, who runs without these checks."""
        with expected(*args, **kwargs) as error, _unchecked():
            yield error

    pytest.raises = raises

# Programs started in the background of a script ignore Ctrl-C, and so do theirs: the
# tests of interrupts would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    # Not with `-p no:cacheprovider`, nor where the user keeps compiled programs.
    cache = getattr(config, "cache", None)
    if cache is None or jax.config.jax_compilation_cache_dir is not None:
        return
    folder = cache.mkdir("compiled")
    if not hasattr(config, "workerinput"):
        compilation_cache.prune(folder)
    compilation_cache.share(folder)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What needs a live Julia first, for one worker, which then compiles each solver
    once; then the tests of whole processes, some of which take long."""
    live = [item for item in items if item.get_closest_marker("julia")]
    for item in live:
        item.add_marker(pytest.mark.xdist_group("julia"))
    others = [item for item in items if item not in set(live)]
    here = Path(__file__).parent
    items[:] = live + sorted(others, key=lambda item: item.path.parent != here)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Every worker takes whole files, of what belongs to no group."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Files(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            group = super()._split_scope(nodeid)
            return nodeid.partition("::")[0] if group == nodeid else group

    return Files(config, log)


# So much more than before, and what JAX has compiled is let go. A whole run compiles
# thousands of functions of three memory mappings or more each; at the 65530 that Linux
# grants a process, XLA's next compilation crashes. Two gigabytes are some 15000.
MOST_BYTES = 2 * 2**30
_least = [0]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    statistics = Path("/proc/self/statm")
    if not sys.platform.startswith("linux") or not statistics.exists():
        return
    if _resident(statistics) > _least[0] + MOST_BYTES:
        eqx.clear_caches()
        jax.clear_caches()
        gc.collect()
        # Freed blocks go back to the system, and not only to the allocator.
        if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
            library.malloc_trim(0)
        # Julia's memory, and what is still in use, stays.
        _least[0] = _resident(statistics)


def _resident(statistics):
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def getkey(request):
    """A callable that returns a fresh random key on each call.

    The seed is fixed by the name of the test, so that a failure comes back, and no
    two tests share numbers.
    """
    name = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    for group in request.node.iter_markers("xdist_group"):
        name = name.removesuffix(f"@{group.args[0]}")
    draws = random.Random(name)

    def fresh():
        return jax.random.key(draws.randint(0, 2**31 - 1))

    return fresh


@pytest.fixture
def unchecked_types():
    """Let a test pass values of other types than the annotations say."""
    with _unchecked():
        yield


@pytest.fixture
def strict_promotion():
    """Refuse silent promotion of dtypes and ranks while a test runs."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        yield


@pytest.fixture
def gpu():
    """The first GPU that JAX sees, on which what the test computes is put."""
    try:
        devices = jax.devices("gpu")
    except RuntimeError:
        pytest.skip("JAX sees no GPU")
    with jax.default_device(devices[0]):
        yield devices[0]


@pytest.fixture(autouse=True)
def _skipped_without_julia(request):
    """Skips what is marked `julia` where none is configured."""
    if request.node.get_closest_marker("julia"):
        _require_configured()


@pytest.fixture(scope="session")
def julia():
    """The live Julia session.

    Skips only where no Julia is configured: one that is configured and does not
    start is a failure.
    """
    from hybrid_nds import runtime

    _require_configured()
    return runtime.session()


def _require_configured() -> None:
    from hybrid_nds import runtime

    if not runtime.configured():
        pytest.skip("no Julia is configured (see `hybrid-nds julia configure`)")
