"""Writing at once or not at all."""

from __future__ import annotations

import os
import stat

import pytest

import fastmlp as fm


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="cannot replace what is no regular file"):
        fm.MLP([2, 1]).save(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_folder_is_not_replaced(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder'$"):  # not the name of a temporary file
        fm.MLP([2, 1]).save(folder)
    assert os.listdir(tmp_path) == ["folder"]
