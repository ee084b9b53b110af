"""Permissions of files that are written whole or not at all."""

import os
import stat
import sys

import pytest

from hybrid_nds._core import write_text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_others_may_read_what_they_may_read_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file", "text")
        (tmp_path / "plain").write_text("text")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("file", "plain")]
    assert modes == [0o666 & ~mask] * 2
