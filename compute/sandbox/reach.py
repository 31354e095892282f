"""What a job may read: Python, its packages and ours, and nothing else that happens to be on ``sys.path``.

And how it gets there. Where root runs us, Python often lies in root's home, of mode 700: pyenv, uv, a checkout with its
virtual environment. A job is nobody, and libraries import late (``np.unique`` imports ``numpy.ma``), so it would fail
in the middle of its work. To load everything beforehand is a list that is never complete, and to keep
CAP_DAC_READ_SEARCH would leave Landlock alone to hold. So the folders are held open, and Python searches them by
descriptor: ``/proc/self/fd/5/numpy`` leads there without a step through the home.
"""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_BY_DESCRIPTOR = re.compile(r"/proc/self/fd/\d+/")
SYSTEM = (
    *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo"),
    *("/proc/meminfo", "/proc/cpuinfo", "/sys/devices/system/cpu", "/dev/urandom"),
)
"""Shared libraries, and what numpy and V8 ask about the machine."""


def python_folders() -> list[str]:
    """Folders of the standard library, of installed packages, and of this package; real paths, none inside another.

    A script's own folder is on ``sys.path`` too, with its ``.env`` and its data: a job could bake those into a public
    file. So an entry counts only if Python itself or an installer made it.
    """
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    paths |= {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "cloudbaker":
            paths |= set(getattr(module, "__path__", ()))
    return _outermost(os.path.realpath(path) for path in paths if Path(path).is_dir())


def _outermost(paths: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(paths):  # a folder comes before what is in it
        if not any(_within(path, other) for other in kept):
            kept.append(path)
    return kept


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def hold_open(folders: Iterable[str]) -> list[int]:
    """Let Python find its modules in `folders` by descriptor, in this process and what it forks. Returns those.

    Call it early: what was imported before keeps its ``__file__``.
    """
    held = {folder: os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in folders}

    def by_descriptor(path: str) -> str:
        real = os.path.realpath(path)
        for folder, fd in held.items():
            if _within(real, folder):
                return f"/proc/self/fd/{fd}{real[len(folder) :]}"
        return path

    sys.path[:] = [by_descriptor(path) for path in sys.path]
    for module in list(sys.modules.values()):
        paths = getattr(module, "__path__", None)
        if isinstance(paths, list):
            paths[:] = [by_descriptor(path) for path in paths]
    sys.path_importer_cache.clear()
    return list(held.values())


def readable_names(text: str) -> str:
    """`text`, a stack trace, with the names of files as below their folder: ``numpy/lib/_npyio_impl.py``."""
    return _BY_DESCRIPTOR.sub("", text)
