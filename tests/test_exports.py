"""What the package exports, and that nothing heavy is imported before it is used."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hybrid_nds

STUB = Path(hybrid_nds.__file__).with_suffix(".pyi")
NAMES = [
    alias.name
    for statement in ast.parse(STUB.read_text()).body
    if isinstance(statement, ast.ImportFrom)
    for alias in statement.names
]


def _fresh(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_export_is_there(name):
    assert getattr(hybrid_nds, name) is not None
    assert name in dir(hybrid_nds)
    assert name in hybrid_nds.__all__


def test_a_name_that_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nowhere"):
        _ = hybrid_nds.nowhere


def test_neither_the_package_nor_its_command_line_imports_jax():
    _fresh("""
        import sys
        import hybrid_nds.cli
        from hybrid_nds import runtime
        try:
            hybrid_nds.cli.app(["--help"])
        except SystemExit as exit:
            assert exit.code == 0
        heavy = {"jax", "numpy", "scipy", "diffrax", "matplotlib", "juliacall"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """)
