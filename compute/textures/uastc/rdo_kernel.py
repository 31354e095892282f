"""The kernel of `rdo`, compiled and loaded as `kernels` does its own, and apart from it.

Who wants no smaller blocks neither waits for it nor gets another kernel for it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import lru_cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import warp as wp

from cloudbaker.compute.textures.uastc import kernels
from cloudbaker.compute.textures.uastc.tables import LEVELS, unquantized
from cloudbaker.errors import KernelsMissing
from cloudbaker.settings import settings

_SOURCE = "".join(resources.files(__package__).joinpath(name).read_text("utf-8") for name in ("uastc.h", "rdo.h"))
CAPACITY = 2048
"""Weights, and whole blocks, that are remembered; the oldest are forgotten."""
MEMORY = CAPACITY * (312 + 152)
"""Bytes for them: `Weights` and `Whole` of rdo.h, where that is asserted."""


@wp.func_native(  # type: ignore[untyped-decorator]
    "uastc_rdo::optimize(picture.data, width, height, across, first, last, bytes.data, words.data, effort.data, "
    "values.data, literal, error_per_bit, memory.data, out.data);"
)
def _optimize(
    picture: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    first: wp.int32,
    last: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    values: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    literal: wp.int32,
    error_per_bit: wp.float32,
    memory: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None: ...


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def optimize_blocks(
    picture: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    first: wp.int32,
    last: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    values: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    literal: wp.int32,
    error_per_bit: wp.float32,
    memory: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None:
    """Blocks `first` to `last` in place, one after the other: a launch has one thread."""
    _optimize(
        picture, width, height, across, first, last, bytes, words, effort, values, literal, error_per_bit, memory, out
    )


wp.set_module_options(
    {
        **kernels.MODULE_OPTIONS,
        "extra_build_options": wp.ModuleBuildOptions(extra_cpu_preamble=_SOURCE, extra_cuda_preamble=_SOURCE),
    }
)


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where the compiled kernel of this source, this Warp and this CPU belongs: beside that of `kernels`."""
    identity = "\n".join([_SOURCE, Path(__file__).read_text("utf-8"), kernels.folder().name, version("warp-lang")])
    return settings().kernels_prefix / f"uastc-rdo-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


_loading = threading.Lock()


@lru_cache(maxsize=1)
def _load() -> None:
    compile_once()
    kernels.load()
    try:
        wp.load_aot_module(sys.modules[__name__], device="cpu", module_dir=folder(), strip_hash=True)
    except (OSError, RuntimeError) as error:
        raise KernelsMissing(
            "the texture kernels can't be loaded: run `cloudbaker setup`", detail=str(error)
        ) from error


def _compiled() -> bool:
    try:
        return folder().is_dir()
    except PermissionError:  # a sandboxed job, whose fork server did not call `prepare`
        return False


def load() -> None:
    """Have the kernel loaded, compiled first where nobody has yet. Raises `KernelsMissing`."""
    with _loading:
        _load()


def compile_once() -> None:
    """Compile the kernel where nobody has yet, in a process of its own, as `kernels.compile_once`."""
    if _compiled():
        return
    code = f"from {__name__} import compile_here; compile_here()"
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False, text=True)
        detail = done.stderr[-4000:]
    except OSError as error:
        detail = str(error)
    if not _compiled():
        raise KernelsMissing(
            "the kernel that makes UASTC smaller is not compiled, and can't be from here: run `cloudbaker setup` as "
            "the user who owns the installation, or name a folder that can be written to with "
            "CLOUDBAKER_KERNELS_PREFIX",
            detail=detail,
        )


def compile_here() -> Path:
    """Compile the kernel into its `folder`, whole or not at all; whoever comes second changes nothing."""
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".uastc-rdo-", dir=target.parent))
    try:
        wp.config.kernel_cache_dir = str(settings().kernels_prefix / "warp")
        wp.init()  # type: ignore[no-untyped-call]
        wp.compile_aot_module(sys.modules[__name__], device="cpu", module_dir=scratch, strip_hash=True)
        scratch.chmod(0o755)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def value_table() -> npt.NDArray[np.int32]:
    """For each range of endpoints, what a stored one means."""
    table = np.zeros((len(LEVELS), 256), np.int32)
    for row, levels in enumerate(LEVELS):
        table[row, :levels] = unquantized(levels)
    return table.ravel()
