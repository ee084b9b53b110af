"""Permissions of files that are written whole or not at all."""

import errno
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


def test_a_folder_is_refused_as_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="this is a folder") as caught:
        write_text(tmp_path, "text")
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.parent.glob(".partial-*")) == []


def test_a_path_under_a_file_is_named(tmp_path):
    (tmp_path / "afile").write_text("kept")
    path = tmp_path / "afile" / "model.safetensors"
    with pytest.raises(OSError, match="a folder of its path is a file") as caught:
        write_text(path, "text")
    assert caught.value.filename == str(path)
    assert (tmp_path / "afile").read_text() == "kept"


def test_a_refusal_of_the_system_names_the_path_and_keeps_its_kind(
    tmp_path, monkeypatch
):
    # Root may write anywhere, so that the system's refusal is made here.
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError, match="Permission denied; take") as caught:
        write_text(tmp_path / "file", "text")
    assert caught.value.filename == str(tmp_path / "file")
    assert caught.value.errno == errno.EACCES
