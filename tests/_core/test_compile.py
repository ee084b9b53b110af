"""Options of the compiler: only those that it knows."""

import jax
import jax.numpy as jnp

from hybrid_nds._core import _compile, quick_options


def test_unknown_options_are_left_out(monkeypatch):
    wanted = dict(_compile._WANTED) | {"xla_no_such_option": True}
    monkeypatch.setattr(_compile, "_WANTED", wanted)
    quick_options.cache_clear()
    options = quick_options()
    quick_options.cache_clear()
    assert "xla_no_such_option" not in options
    # The oldest of them: every version that the package allows has it.
    assert options["xla_backend_optimization_level"] == 0
    assert jax.jit(jnp.sum, compiler_options=options)(jnp.arange(4.0)) == 6.0
