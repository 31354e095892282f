"""Scratch folders end with their process, and whatever a tool has done in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudbaker.compute.sandbox.scratch import (
    ScratchRoot,
    private_root,
    remove_tree,
    scratch_folder,
    sweep,
    tree_size,
)

HOLD = """
import sys, time
from pathlib import Path
from cloudbaker.compute.sandbox.scratch import ScratchRoot
root = ScratchRoot(Path(sys.argv[1]))
(root.folder() / "file").write_text("left behind")
print(root.path, flush=True)
time.sleep(600)
"""


def test_gone_at_close(tmp_path: Path) -> None:
    root = ScratchRoot(tmp_path)
    folder = root.folder()
    (folder / "file").write_text("x")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert root.path.stat().st_mode & 0o006 == 0, "nobody can list it"
    root.close()
    root.close()
    assert list(tmp_path.iterdir()) == []


def test_the_next_process_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        assert sweep(tmp_path) == [], "it is alive"
        assert left.is_dir()
        process.kill()
    assert left.is_dir()
    root = ScratchRoot(tmp_path)
    assert [path for path in tmp_path.iterdir() if path != root.path] == []
    root.close()


def test_sweeping_leaves_others_alone(tmp_path: Path) -> None:
    (tmp_path / "cloudbaker-sandbox-file").write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    (tmp_path / "cloudbaker-sandbox-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cloudbaker-other").mkdir()
    assert sweep(tmp_path) == []
    assert (tmp_path / "elsewhere" / "precious").exists()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_for_one_tool() -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == private_root().path
    assert not folder.exists()


def test_removes_what_is_nested_too_deep_for_rmtree(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1200):  # beyond the recursion limit, and with these names far beyond PATH_MAX
        os.mkdir("d" * 50, dir_fd=fd)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT, dir_fd=inner))
        os.close(fd)
        fd = inner
    os.close(fd)
    assert tree_size(top) == 1 << 60
    remove_tree(top)
    assert not top.exists()


def test_removes_links_without_following(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "link").symlink_to(tmp_path / "precious")
    (top / "inner" / "link").symlink_to(tmp_path / "precious")
    (top / "inner" / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "inner" / "fifo")
    (top / "shut").mkdir(mode=0)
    remove_tree(top)
    assert not top.exists()
    assert (tmp_path / "precious" / "file").read_text() == "x"
    remove_tree(top)


def test_tree_size(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 1_000_000)
    (tmp_path / "link").symlink_to("/")
    assert 1_000_000 <= tree_size(tmp_path) < 1_100_000
    for index in range(20):
        (tmp_path / str(index)).touch()
    assert tree_size(tmp_path, most_entries=10) == 1 << 60


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_folder_for_nobody(tmp_path: Path) -> None:
    root = ScratchRoot(tmp_path)
    assert root.folder(owner=65534).stat().st_uid == 65534
    assert root.path.stat().st_mode & 0o777 == 0o711
    root.close()
