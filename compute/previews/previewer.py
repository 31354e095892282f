"""Pictures of models for people: three.js in a sandboxed headless Chromium, kept warm.

    with Previewer() as previewer:
        comparison = previewer.compare(source, baked, size=512)

What is rendered is what a client sees: the same loader, decoders and shading. The pictures are evidence, not part of
the package. How it is held in: docs/previews.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloudbaker.compute.job import Limits
from cloudbaker.compute.previews import worker
from cloudbaker.compute.previews.worker import read_frame, write_frame
from cloudbaker.compute.sandbox.confine import NOBODY
from cloudbaker.compute.sandbox.proc import descendants, use
from cloudbaker.compute.sandbox.scratch import ScratchRoot
from cloudbaker.compute.sandbox.tools import require, tool_command
from cloudbaker.errors import IsolationUnavailable, SandboxCrash, SandboxJobError, SandboxLimit, ToolMissing
from cloudbaker.settings import settings

MAX_GLB_BYTES = 256 << 20
"""Larger models are not shown: they travel as base64 in one message of the DevTools protocol, and V8's strings end at
512 MB."""
IDENTICAL_DB = 100.0
"""What the PSNR of identical pictures is given as, for want of infinity in JSON."""
_BACKGROUND = np.array([0xAA, 0xAE, 0xB5], dtype=np.uint8)
"""As in page.html."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Where a picture is taken from. A later picture from the same camera can be compared with it pixel by pixel."""

    position: tuple[float, float, float]
    """Metres, in the model's own space, Y up."""
    target: tuple[float, float, float]
    fov: float
    """Vertical field of view, degrees; the pictures are square."""
    near: float
    far: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of an animation, to see a model in another pose than it rests in."""

    animation: int
    """Its number in the document."""
    seconds: float
    """Since its beginning; after its end it stays in its last pose."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered view of a model."""

    png: bytes = field(repr=False)
    width: int
    height: int
    triangles: int
    """Triangles drawn, instances counted; glTF's own count may be less."""
    seconds: float
    """Wall clock, with the launch of the browser where it was not warm."""
    renderer: str
    """Browser, three.js revision and what draws (``Chromium 156 three.js r187 SwiftShader``), for the record."""
    camera: Camera
    covered_percent: float
    """Share of pixels that show the model and not the background."""
    problems: tuple[str, ...]
    """What three.js complained of and went on, such as a texture that it could not load."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same view of a model before and after it was baked."""

    before: Picture
    after: Picture
    difference_percent: float
    """Mean absolute difference of the 8-bit sRGB channels in % of full scale, over the pixels where either picture
    shows the model."""
    psnr_db: float
    """Peak signal-to-noise ratio over the same pixels; `IDENTICAL_DB` where there is no difference."""


@dataclass(frozen=True, slots=True)
class _Shot:
    picture: Picture
    pixels: NDArray[np.uint8]


def available(chromium: str = "") -> str | None:
    """None if pictures can be rendered here, else the reason and the remedy in a sentence.

    `chromium` is the browser's path; empty: from the settings.
    """
    browser = Path(chromium or settings().chromium)
    if not os.access(browser, os.X_OK):
        return f"no browser at {browser}: install Debian's chromium, or set CLOUDBAKER_CHROMIUM to a Chromium's path"
    try:
        require()
    except (ToolMissing, IsolationUnavailable) as error:
        return error.message
    if not (_three() / "build" / "three.module.js").is_file():
        return "three.js is not installed: run `cloudbaker setup`"
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright is not installed: install it (pip install playwright)"
    return None


class Previewer:
    """A warm browser that renders models. A context manager; thread-safe, one picture at a time.

    The browser starts with the first picture, or at once in the background with `warm`; it is started anew after a
    crash or a timeout. `close` leaves no process and no file behind, and neither does a kill -9 of the process that
    holds it.
    """

    def __init__(self, *, chromium: str = "", wall_seconds: float = 60.0, memory_bytes: int = 3 << 30) -> None:
        """Raises ToolMissing where Chromium, bubblewrap or three.js is missing.

        `wall_seconds` is the hard limit of one picture, a cold start included, `memory_bytes` that of all the browser's
        processes together (idle it needs about 0.3 GB): past either the whole process tree is killed.
        """
        if reason := available(chromium):
            raise ToolMissing(f"no previews: {reason}")
        self._chromium = Path(chromium or settings().chromium)
        self.wall_seconds = wall_seconds
        """May be changed from one picture to the next."""
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: ScratchRoot | None = None
        self._unread = 0
        """Answers still to come that nobody waits for."""
        self._closed = False

    def __enter__(self) -> Previewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm(self) -> None:
        """Begin to launch the browser and return at once, so that it is ready when the first model is."""
        with self._lock:
            if self._process is None and not self._closed:
                write_frame(_pipes(self._start())[0], {"do": "open"})
                self._unread += 1

    def render(
        self,
        glb: bytes | memoryview,
        *,
        size: int = 512,
        camera: Camera | None = None,
        moment: Moment | None = None,
    ) -> Picture:
        """A picture of a GLB, `size` × `size` pixels, from `camera`, else a three-quarter view that fits its bounds; at
        a `moment` of an animation, else as it rests.

        Raises SandboxLimit where it takes longer than the wall clock or is too large, SandboxCrash where the browser
        died of it, SandboxJobError where three.js can't show it, ToolMissing where the browser does not start. After
        any of them the next call works.
        """
        return self._shoot(glb, size, camera, moment).picture

    def compare(
        self,
        before: bytes | memoryview,
        after: bytes | memoryview,
        *,
        size: int = 512,
        camera: Camera | None = None,
        moment: Moment | None = None,
    ) -> Comparison:
        """Both pictures from the same camera, that of `before` unless given, and how far they differ; both at the same
        `moment` of an animation, if any.

        Raises as `render` does.
        """
        first = self._shoot(before, size, camera, moment)
        second = self._shoot(after, size, first.picture.camera, moment)
        return Comparison(first.picture, second.picture, *picture_difference(first.pixels, second.pixels))

    def close(self) -> None:
        """End the browser and remove its files. Harmless when repeated; a later `render` raises ValueError."""
        with self._lock:
            self._closed = True
            self._kill()

    def _shoot(self, glb: bytes | memoryview, size: int, camera: Camera | None, moment: Moment | None) -> _Shot:
        if not 16 <= size <= 2048:
            raise ValueError(f"size must be 16 to 2048 pixels, not {size}")
        model = memoryview(glb).cast("B")
        if len(model) > MAX_GLB_BYTES:
            raise SandboxLimit(
                f"no preview of a model of more than {MAX_GLB_BYTES >> 20} MB: make it smaller, or look at a baked one",
                limit="file_size",
                bytes=len(model),
            )
        started = time.monotonic()
        given = {"camera": camera and dataclasses.asdict(camera), "moment": moment and dataclasses.asdict(moment)}
        request = {"do": "render", "size": size, **given}
        with self._lock:
            if self._closed:
                raise ValueError("this Previewer is closed")
            head, body = self._call(request, model)
        return _shot(head, body, size, time.monotonic() - started)

    def _call(self, request: dict[str, Any], model: memoryview) -> tuple[dict[str, Any], bytes]:
        """One request and its answer, guarded. Whatever goes wrong, the next call starts clean."""
        process = self._process or self._start()
        guard = _Guard(process, self.wall_seconds, self._memory_bytes)
        answer: tuple[dict[str, Any], bytes] | None = None
        log = ""
        try:
            stdin, stdout = _pipes(process)
            with contextlib.suppress(BrokenPipeError):
                write_frame(stdin, request, model)
                while (answer := read_frame(stdout)) is not None and self._unread:
                    self._unread -= 1
        finally:
            guard.stop()
            # On Ctrl-C too: half an answer may be in the pipe
            if answer is None or guard.hit or not answer[0].get("alive", True):
                log = self._kill()
        if guard.hit == "wall":
            raise SandboxLimit(
                f"no preview within {self.wall_seconds:g} s: the model is too heavy for it, or built to be",
                limit="wall",
            )
        if guard.hit == "memory":
            raise SandboxLimit(
                f"no preview within {self._memory_bytes >> 20} MB of memory: the model is too large, or built to be",
                limit="memory",
            )
        if answer is None:
            raise SandboxCrash("the preview's worker died", detail=log)
        _raise_failure(answer[0])
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self._scratch = scratch = ScratchRoot()
        self._log = scratch.path / "log"
        temporary = scratch.folder()
        wrapper = scratch.path / "browser"
        wrapper.write_text(_wrapper(self._chromium, scratch.folder(owner=NOBODY), self._memory_bytes))
        wrapper.chmod(0o700)
        arguments = [str(wrapper), str(_three()), str(scratch.path)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                # By its path and not its name: the package's imports would cost a cold start half a second
                [sys.executable, "-P", worker.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=scratch.path,
                # Playwright makes its folders where its own environment says
                env=os.environ | {"TMPDIR": str(temporary)},
                start_new_session=True,
            )
        self._unread = 0
        return self._process

    def _kill(self) -> str:
        """End what runs, if anything does, and remove its files; returns the end of its log."""
        log = ""
        if self._process is not None:
            _kill_tree(self._process)
            self._process.wait()
            for pipe in _pipes(self._process):
                with contextlib.suppress(OSError):
                    pipe.close()
            self._process = None
        if self._scratch is not None:
            with contextlib.suppress(FileNotFoundError):  # the worker took it away, at its orderly end
                log = self._log.read_text(errors="replace")[-4000:]
            self._scratch.close()
            self._scratch = None
        return log


def picture_difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[float, float]:
    """(difference in %, PSNR in dB) of two (h, w, 3) pictures; see `Comparison` for what they mean."""
    shown = (before != _BACKGROUND).any(axis=2) | (after != _BACKGROUND).any(axis=2)
    delta = before[shown].astype(np.float64) - after[shown]
    square = float(np.mean(delta**2)) if delta.size else 0.0
    if square == 0:
        return 0.0, IDENTICAL_DB
    return float(np.mean(np.abs(delta)) / 2.55), min(10 * math.log10(255**2 / square), IDENTICAL_DB)


def _three() -> Path:
    return settings().npm_prefix / "node_modules" / "three"


def _wrapper(chromium: Path, scratch: Path, memory_bytes: int) -> str:
    """A shell script that Playwright takes for the browser: Chromium in bubblewrap, its pipe on descriptors 3 and 4."""
    browser = chromium.resolve()
    # It lives for many models: neither clock ends it, `_Guard` does
    limits = Limits(memory_bytes=memory_bytes, cpu_seconds=10**9, wall_seconds=math.inf)
    # Debian's launcher sources /etc/chromium.d; a Chromium of another make may lie in a folder of its own, such as /opt
    folders = (Path("/etc/chromium.d"), browser.parent)
    outside = [folder for folder in folders if folder.is_dir() and not folder.is_relative_to("/usr")]
    command = tool_command([str(browser)], scratch=scratch, ro=outside, limits=limits)
    return f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    return cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the worker and all below it.

    The worker and Playwright's driver are one process group, which outlives the worker. Chromium is in a session of its
    own; bubblewrap ends it with the driver, but here it is gone when we return.
    """
    if process.returncode is not None:
        return  # reaped: its number may be another's by now
    browser = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in browser:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class _Guard:
    """Kills a worker's tree when its time or its memory is up; `hit` then says ``wall`` or ``memory``."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float, memory_bytes: int) -> None:
        self.hit = ""
        self._process = process
        self._deadline = time.monotonic() + seconds
        self._memory_bytes = memory_bytes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        # RLIMIT_DATA holds each process; several processes together are held here. 0.2 s: a page that touches fresh
        # memory as fast as it can gets some 1 GB further in that time.
        while not self._done.wait(0.2):
            if time.monotonic() > self._deadline:
                self.hit = "wall"
            elif sum(use(pid).memory for pid in descendants(self._process.pid)) > self._memory_bytes:
                self.hit = "memory"
            if self.hit:
                _kill_tree(self._process)
                return


def _raise_failure(head: dict[str, Any]) -> None:
    if head["ok"]:
        return
    if head["stage"] == "launch":
        raise ToolMissing(
            "no previews: Chromium does not start in the sandbox; `cloudbaker doctor` tells what it lacks",
            detail=head["error"],
        )
    if not head["alive"]:
        raise SandboxCrash(
            "the browser died while it rendered this model: it may be built to do that", detail=head["error"]
        )
    # "Page.evaluate: Error: …\n    at …": the first line is for people
    reason = _plain(head["error"].removeprefix("Page.evaluate: ").partition("\n")[0])
    raise SandboxJobError(f"three.js can't show this model: {reason}", detail=head["error"])


def _plain(text: str) -> str:
    """At most 300 printable characters: what a file's author may have written goes to people's terminals."""
    return "".join(c if c.isprintable() else "�" for c in text[:300])


def _shot(head: dict[str, Any], body: bytes, size: int, seconds: float) -> _Shot:
    """Check what came from the browser (a taken-over one may say anything) and make a PNG of the bare pixels.

    That the browser sends pixels and not a PNG keeps this process from decoding what a hostile file had a hand in.
    """
    try:
        rgba = np.frombuffer(body, dtype=np.uint8).reshape(size, size, 4)
        at = head["camera"]
        (px, py, pz), (tx, ty, tz) = (map(float, at[key]) for key in ("position", "target"))
        camera = Camera((px, py, pz), (tx, ty, tz), float(at["fov"]), float(at["near"]), float(at["far"]))
        triangles = int(head["triangles"])
        renderer = f"Chromium {head['chromium']}, three.js r{head['three']}, {head['renderer']}"[:300]
        problems = tuple(_plain(str(problem)) for problem in head["problems"][:20])
    except (KeyError, TypeError, ValueError) as error:
        raise SandboxCrash("the browser's answer makes no sense: this model may be built to do that") from error
    pixels = np.ascontiguousarray(rgba[::-1, :, :3])  # WebGL's first row is the lowest
    out = BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", optimize=False, compress_level=6)
    picture = Picture(
        png=out.getvalue(),
        width=size,
        height=size,
        triangles=triangles,
        seconds=seconds,
        renderer=renderer,
        camera=camera,
        covered_percent=100 * float(np.mean((pixels != _BACKGROUND).any(axis=2))),
        problems=problems,
    )
    return _Shot(picture, pixels)
