"""A Warp module that is compiled once into the installation, and loaded from there by every process that uses it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import warp as wp

from cloudbaker.errors import KernelsMissing
from cloudbaker.settings import settings


def init() -> None:
    """Start Warp, with its own cache in the installation."""
    wp.config.kernel_cache_dir = str(settings().kernels_prefix / "warp")  # it is made even where nothing goes into it
    wp.init()  # type: ignore[no-untyped-call]


class Compiled:
    """The CPU's kernels of one module, which has to hold this as ``COMPILED``."""

    def __init__(self, module: str, name: str, identity: Callable[[], list[str]]) -> None:
        """`name` begins its folder's; `identity`: what decides the machine code, beside the module and Warp."""
        self._module = module
        self._name = name
        self._identity = identity
        self._loading = threading.Lock()
        self._loaded = False

    @cached_property
    def folder(self) -> Path:
        """Where the compiled kernels of this source, this Warp and this CPU belong."""
        source = Path(str(sys.modules[self._module].__file__)).read_text("utf-8")
        identity = "\n".join([source, version("warp-lang"), *self._identity()])
        return settings().kernels_prefix / f"{self._name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def load(self) -> None:
        """Have them loaded, compiled first where nobody has yet. Raises `KernelsMissing`."""
        with self._loading:
            if self._loaded:
                return
            self.compile_once()
            init()
            try:
                module = sys.modules[self._module]
                wp.load_aot_module(module, device="cpu", module_dir=self.folder, strip_hash=True)
            except (OSError, RuntimeError) as error:
                raise KernelsMissing(
                    "the texture kernels can't be loaded: run `cloudbaker setup`", detail=str(error)
                ) from error
            self._loaded = True

    def compile_once(self) -> None:
        """Compile them where nobody has yet. Raises `KernelsMissing`.

        In a process of its own: the compiler leaves 100 MB behind, which every job of a fork server would carry.
        """
        if self._there():
            return
        code = f"from {self._module} import COMPILED; COMPILED.compile_here()"
        try:
            done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False, text=True)
            detail = done.stderr[-4000:]
        except OSError as error:
            detail = str(error)
        if not self._there():
            raise KernelsMissing(
                "the texture kernels are not compiled, and can't be from here: run `cloudbaker setup` as the user who "
                "owns the installation, or name a folder that can be written to with CLOUDBAKER_KERNELS_PREFIX",
                detail=detail,
            )

    def compile_here(self) -> None:
        """Compile them into their `folder`, whole or not at all; whoever comes second changes nothing."""
        target = self.folder
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{self._name}-", dir=target.parent))
        try:
            init()
            wp.compile_aot_module(sys.modules[self._module], device="cpu", module_dir=scratch, strip_hash=True)
            scratch.chmod(0o755)
            try:
                scratch.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _there(self) -> bool:
        try:
            return self.folder.is_dir()
        except PermissionError:  # a sandboxed job, whose fork server did not call `load`
            return False
