"""The process that holds Playwright and a warm Chromium: frames on standard input and output, one model at a time.

Its own process rather than a thread, because Playwright's sync API is bound to one thread and refuses a running event
loop (Jupyter, Prefect), because it makes its temporary folders where *its* environment says, and because one process
group can be killed as a whole. The bytes of the model pass through unread; only Chromium parses them.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from playwright.sync_api import Page, Playwright, Route

ORIGIN = "http://previews.invalid"
FLAGS = (
    # Software rendering by SwiftShader: the same pixels on any machine, and no GPU driver within reach of a model
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-gpu-shader-disk-cache",
    "--disable-dev-shm-usage",
    # Processes in the sandbox can't make further ones' namespaces; see docs/decisions/008-previews.md
    "--no-zygote",
    "--disable-breakpad",
    "--disable-crash-reporter",
)
MIME = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}
RENDERS_PER_PAGE = 200
"""After so many the page is made anew, so that what a model leaves behind does not pile up."""
HEADER = struct.Struct("<II")
"""Lengths of the JSON head and the binary body of a frame."""


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None where the other side has closed."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    head_size, body_size = HEADER.unpack(header)
    head, body = stream.read(head_size), stream.read(body_size)
    if len(head) < head_size or len(body) < body_size:
        return None
    return json.loads(head), body


def write_frame(stream: BinaryIO, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Send a frame."""
    text = json.dumps(head, separators=(",", ":")).encode()
    stream.write(HEADER.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


class _Browser:
    """A launched Chromium with one page that waits for models."""

    def __init__(self, playwright: Playwright, executable: str, three: Path) -> None:
        self.three = three
        self.model = b""
        self.renders = 0
        self.browser = playwright.chromium.launch(
            executable_path=executable, args=list(FLAGS), chromium_sandbox=False, timeout=30_000
        )
        self._open()

    def render(
        self, model: bytes, size: int, camera: dict[str, Any] | None, moment: dict[str, Any] | None
    ) -> dict[str, Any]:
        if self.renders >= RENDERS_PER_PAGE:
            self.page.context.close()
            self._open()
        self.model = model
        self.renders += 1
        try:
            # The name changes so that nothing on the way can answer with the model before
            answer: dict[str, Any] = self.page.evaluate(
                "([u, s, c, m]) => render(u, s, c, m)", [f"/model-{self.renders}.glb", size, camera, moment]
            )
        finally:
            self.model = b""
        return answer | self.facts

    def _open(self) -> None:
        context = self.browser.new_context(viewport={"width": 64, "height": 64}, service_workers="block")
        context.route("**/*", self._serve)
        self.page: Page = context.new_page()
        self.renders = 0
        self.page.goto(f"{ORIGIN}/page.html")
        self.page.wait_for_function("window.ready", timeout=30_000)
        self.facts: dict[str, Any] = self.page.evaluate("facts()") | {"chromium": self.browser.version}

    def _serve(self, route: Route) -> None:
        """Answer a request of the page: itself, three.js, the model. Anything else does not exist."""
        url = route.request.url
        path = url.removeprefix(ORIGIN) if url.startswith(f"{ORIGIN}/") else ""
        if path == f"/model-{self.renders}.glb":
            route.fulfill(body=self.model, content_type="model/gltf-binary")
            return
        root, name = (self.three, path[7:]) if path.startswith("/three/") else (Path(__file__).parent, path[1:])
        file = (root / name).resolve()
        if path and file.is_relative_to(root.resolve()) and file.suffix in MIME and file.is_file():
            route.fulfill(body=file.read_bytes(), content_type=MIME[file.suffix])
        else:
            route.fulfill(status=404, body="")


def main() -> None:
    """Serve frames until standard input ends. Arguments: executable of the browser, folder of three, scratch folder."""
    executable, three, scratch = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the frames
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _die_with_parent(requests.fileno(), scratch)
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        browser: _Browser | None = None
        while frame := read_frame(requests):
            head, model = frame
            stage, body = "launch", b""
            try:
                if browser is None:
                    browser = _Browser(playwright, executable, three)
                answer: dict[str, Any] = {}
                if head["do"] == "render":
                    stage = "render"
                    answer = browser.render(model, head["size"], head["camera"], head["moment"])
                    body = base64.b64decode(answer.pop("pixels"))
                answer |= {"ok": True}
            except Error as error:
                alive = browser is not None and _responds(browser)
                answer = {"ok": False, "stage": stage, "alive": alive, "error": error.message[:4000]}
            write_frame(results, answer, body)
            if not answer.get("alive", True):
                signal.pause()  # nothing here is worth keeping: whoever started us kills it all, and starts anew
    _end(scratch)


def _responds(browser: _Browser) -> bool:
    """Whether the page is still there and its WebGL context alive."""
    from playwright.sync_api import Error

    try:
        return bool(browser.page.evaluate("alive()"))
    except Error:
        return False


def _die_with_parent(stdin: int, scratch: Path) -> None:
    """Watch for the parent's end, even by kill -9 and even while a render hangs.

    PR_SET_PDEATHSIG would fire when the *thread* that started us ends. A hang-up of the pipe tells, but a forked
    sibling may hold the pipe's other end open, so the parent's pid is looked at too.
    """
    parent = os.getppid()

    def watch() -> None:
        poll = select.poll()
        poll.register(stdin, 0)  # POLLHUP is always reported
        while not poll.poll(1000) and os.getppid() == parent:
            pass
        _end(scratch)

    threading.Thread(target=watch, daemon=True).start()


def _end(scratch: Path) -> None:
    """Remove the scratch folder and kill this process group. (A browser has nothing that an orderly end would save, and
    bubblewrap ends with Playwright's driver.)"""
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
