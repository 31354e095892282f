"""Pictures by the real Chromium, in the real sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from cloudbaker.compute.previews import IDENTICAL_DB, Previewer
from cloudbaker.compute.previews.previewer import _shot
from cloudbaker.compute.sandbox.scratch import private_root
from cloudbaker.errors import SandboxCrash, SandboxJobError, SandboxLimit, ToolMissing
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import Writer, pack, unpack

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def previewer() -> Iterator[Previewer]:
    with Previewer() as shared:
        shared.warm()
        yield shared


def processes() -> set[int]:
    """Processes below this one, without the dead."""
    alive = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.add(process.pid)
        except psutil.NoSuchProcess:
            pass
    return alive


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of one's own, where leftovers would be seen."""
    private_root()  # what the process keeps until its end is not meant
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def wait_until_gone(pids: set[int], seconds: float = 15) -> set[int]:
    end = time.monotonic() + seconds
    while (alive := {p for p in pids if _alive(p)}) and time.monotonic() < end:
        time.sleep(0.05)
    return alive


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def worker_of(previewer: Previewer) -> psutil.Process:
    assert previewer._process is not None
    return psutil.Process(previewer._process.pid)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_picture_shows_the_model(previewer: Previewer) -> None:
    picture = previewer.render(models.box(color=(0.9, 0.05, 0.05)), size=256)
    image = pixels(picture.png)
    assert image.shape == (256, 256, 3)
    assert picture.triangles == 12
    assert picture.problems == ()
    assert "SwiftShader" in picture.renderer
    red, green, _ = (int(c) for c in image[128, 128])
    assert red > 2 * green
    # It fills the frame, and does not touch its edge
    shown = (image != image[0, 0]).any(axis=2)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) > 0.88 * 256
    assert min(rows[0], columns[0], 255 - rows[-1], 255 - columns[-1]) >= 4


def test_the_same_model_gives_the_same_bytes(previewer: Previewer) -> None:
    model = models.textured(256)
    first = previewer.render(model, size=256)
    previewer.render(models.sphere(), size=128)
    second = previewer.render(model, size=256)
    assert first.png == second.png
    assert first.camera == second.camera
    with Previewer() as other:  # and so does another browser
        assert other.render(model, size=256).png == first.png


@pytest.mark.parametrize("name", sorted(set(models.VALID) - {"textured_jpeg", "small_asset"}))
def test_every_feature_is_shown(previewer: Previewer, name: str) -> None:
    picture = previewer.render(models.VALID[name](), size=128)
    assert picture.covered_percent > 3
    assert picture.problems == ()


def test_compressed_forms_look_like_the_plain_one(previewer: Previewer) -> None:
    plain = models.interleaved(segments=32)
    for compressed in (models.draco(), models.meshopt()):
        comparison = previewer.compare(plain, compressed, size=256)
        # Other colours, the same shape: the outlines agree
        assert comparison.after.covered_percent == pytest.approx(comparison.before.covered_percent, rel=0.01)
        assert comparison.after.camera == comparison.before.camera


def test_compare_measures(previewer: Previewer) -> None:
    sphere = models.sphere(48)
    same = previewer.compare(sphere, sphere, size=128)
    assert (same.difference_percent, same.psnr_db) == (0.0, IDENTICAL_DB)
    coarser = previewer.compare(sphere, models.sphere(24), size=128)
    other = previewer.compare(sphere, models.box(), size=128)
    assert 0 < coarser.difference_percent < 3 < other.difference_percent
    assert coarser.psnr_db > other.psnr_db


def test_a_camera_may_be_given(previewer: Previewer) -> None:
    camera = previewer.render(models.box(size=2), size=64).camera
    near, far = (previewer.render(models.box(size=s), size=64, camera=camera) for s in (2, 1))
    assert near.camera == far.camera == camera
    assert far.covered_percent < 0.5 * near.covered_percent


def ball(*, metal: float, rough: float) -> bytes:
    w = Writer()
    pbr = {"baseColorFactor": [1.0, 1.0, 1.0, 1.0], "metallicFactor": metal, "roughnessFactor": rough}
    material = w.add("materials", {"pbrMetallicRoughness": pbr})
    w.scene(w.node(mesh=w.mesh(shapes.sphere(1, 64), material=material)))
    return w.glb()


def test_metal_mirrors_the_lights_and_roughness_blurs_them(previewer: Previewer) -> None:
    """The prefiltered light is written by hand (page.html): it must be where three.js looks for it."""
    center = slice(24, 104)
    mirror, satin, rough = (
        pixels(previewer.render(ball(metal=1, rough=r), size=128).png)[center, center].mean(axis=2) for r in (0, 0.5, 1)
    )
    assert mirror.std() > satin.std() > rough.std() > 2
    assert mirror[:40, :40].mean() > mirror[40:, 40:].mean() + 20  # the large light hangs at the upper left
    plaster = pixels(previewer.render(ball(metal=0, rough=1), size=128).png)[center, center]
    assert 100 < plaster.mean() < 235
    assert plaster[:20].mean() > plaster[-20:].mean()


def test_sun_of_daylight_strength_does_not_wash_out(previewer: Previewer) -> None:
    document, binary = unpack(models.lights())
    light = document["extensions"]["KHR_lights_punctual"]["lights"][0]
    light |= {"type": "directional", "intensity": 100_000.0}
    del light["range"], light["spot"]
    image = pixels(previewer.render(pack(document, binary), size=64).png)
    assert image[32, 32].max() < 255


@pytest.mark.parametrize("kind", sorted(models.HOSTILE))
def test_a_bad_file_ends_in_a_picture_or_a_typed_error(previewer: Previewer, kind: str) -> None:
    """Whatever three.js makes of it. (Validation rejects these before; this is the second line.)"""
    message = shown = None
    try:
        shown = previewer.render(models.hostile(kind), size=64)
    except SandboxJobError as error:
        message = error.message
    assert (shown is None) != (message is None)
    assert shown is None or shown.covered_percent > 0
    assert message is None or (message.startswith("three.js can't show this model: ") and message.isprintable())
    assert previewer.render(models.box(), size=64).triangles == 12


def test_nothing_outside_can_be_reached(previewer: Previewer) -> None:
    """A model can name an address on the network, but nothing answers: the picture comes with a complaint."""
    picture = previewer.render(models.hostile("http_uri"), size=64)
    assert any("169.254.169.254" in problem for problem in picture.problems)
    picture = previewer.render(models.hostile("file_uri"), size=64)
    assert any("passwd" in problem for problem in picture.problems)


def endless() -> bytes:
    """Small, and valid but for good sense: a fine sphere drawn four million times by EXT_mesh_gpu_instancing."""
    w = Writer()
    w.use("EXT_mesh_gpu_instancing")
    count = 4_000_000
    # A sparse accessor of one value is a few bytes, and zero everywhere else
    zero = w.accessor(np.zeros(1, dtype=np.uint32))
    value = w.accessor(np.zeros((1, 3), dtype=np.float32))
    index_view, value_view = (w.json["accessors"][i]["bufferView"] for i in (zero, value))
    sparse = {
        "count": 1,
        "indices": {"bufferView": index_view, "componentType": 5125},
        "values": {"bufferView": value_view},
    }
    places = w.add("accessors", {"componentType": 5126, "count": count, "type": "VEC3", "sparse": sparse})
    extensions = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places}}}
    w.scene(w.node(mesh=w.mesh(shapes.sphere(1, 256)), extensions=extensions))
    return w.glb()


def test_the_wall_clock_kills_the_whole_tree_and_the_next_model_is_shown(temporary: Path) -> None:
    before = processes()
    with Previewer() as previewer:
        expected = previewer.render(models.box(), size=64).png
        tree = processes() - before
        assert len(tree) > 5  # worker, driver, bubblewrap, Chromium's own
        previewer.wall_seconds = 3
        with pytest.raises(SandboxLimit, match="within 3 s") as caught:
            previewer.render(endless())
        assert caught.value.facts["limit"] == "wall"
        assert not wait_until_gone(tree)
        assert not list(temporary.iterdir())
        previewer.wall_seconds = 60
        assert previewer.render(models.box(), size=64).png == expected
        # A stopped worker stands for whatever hangs on our side of the sandbox
        previewer.wall_seconds = 1
        os.kill(worker_of(previewer).pid, signal.SIGSTOP)
        with pytest.raises(SandboxLimit, match="within 1 s"):
            previewer.render(models.box(), size=64)
    assert not wait_until_gone(processes() - before)
    assert not list(temporary.iterdir())


def test_memory_of_all_processes_together_is_limited() -> None:
    with Previewer(memory_bytes=64 << 20) as previewer:  # the bare browser needs more
        for _ in range(2):
            with pytest.raises((SandboxLimit, ToolMissing)):
                previewer.render(models.box(), size=64)


@pytest.mark.slow
def test_a_model_larger_than_memory() -> None:
    with Previewer(memory_bytes=700 << 20) as previewer:
        previewer.render(models.box(), size=64)
        with pytest.raises((SandboxLimit, SandboxCrash, SandboxJobError)):
            previewer.render(models.grid(2200), size=64)  # 9.7 million triangles, 270 MB of GLB
        assert previewer.render(models.box(), size=64).triangles == 12


@pytest.mark.parametrize(
    "who",
    ["chromium", pytest.param("node", marks=pytest.mark.slow), pytest.param("worker", marks=pytest.mark.slow)],
)
def test_a_killed_process_is_a_crash_and_the_next_picture_comes(who: str) -> None:
    with Previewer() as previewer:
        before = previewer.render(models.box(), size=64).png
        worker = worker_of(previewer)
        for process in [worker, *worker.children(recursive=True)] if who != "worker" else [worker]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if who == "worker" or who in process.name():
                    process.kill()
        with pytest.raises(SandboxCrash):
            previewer.render(models.box(), size=64)
        assert previewer.render(models.box(), size=64).png == before


def test_close_leaves_nothing_and_may_be_repeated(temporary: Path) -> None:
    before = processes()
    previewer = Previewer()
    previewer.warm()
    previewer.render(models.box(), size=64)
    previewer.close()
    previewer.close()
    assert not wait_until_gone(processes() - before)
    assert not list(temporary.iterdir())
    with pytest.raises(ValueError, match="closed"):
        previewer.render(models.box(), size=64)


def test_close_while_it_still_warms_up(temporary: Path) -> None:
    before = processes()
    previewer = Previewer()
    previewer.warm()
    previewer.close()
    assert not wait_until_gone(processes() - before)
    assert not list(temporary.iterdir())


HOLDER = """
import sys, time
from cloudbaker.compute.previews import Previewer
from cloudbaker.testing import models
previewer = Previewer()
previewer.render(models.box(), size=64)
print(previewer._process.pid, previewer._scratch.path, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_nothing_survives_its_owner(number: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid, scratch = owner.stdout.readline().split()
    tree = {int(pid), *(p.pid for p in psutil.Process(int(pid)).children(recursive=True))}
    assert len(tree) > 5
    owner.send_signal(number)
    owner.wait()
    owner.stdout.close()
    assert not wait_until_gone(tree)
    assert not Path(scratch).exists()


def test_from_threads_and_inside_an_event_loop(previewer: Previewer) -> None:
    """Playwright's sync API refuses both; who calls us must not notice."""
    model = models.box()
    expected = previewer.render(model, size=64).png
    with ThreadPoolExecutor(4) as pool:
        assert {p.png for p in pool.map(lambda _: previewer.render(model, size=64), range(8))} == {expected}

    async def inside() -> bytes:
        return previewer.render(model, size=64).png

    assert asyncio.run(inside()) == expected


def test_the_thread_that_started_it_may_end(previewer: Previewer) -> None:
    """PR_SET_PDEATHSIG fires at the end of a thread: it must not be what ties the worker to us."""
    with Previewer() as other:
        thread = threading.Thread(target=other.render, args=(models.box(),), kwargs={"size": 64})
        thread.start()
        thread.join()
        time.sleep(1.5)
        worker = other._process
        assert other.render(models.box(), size=64).triangles == 12
        assert other._process is worker  # the same browser, not a new one


def test_an_answer_that_makes_no_sense_is_a_crash() -> None:
    """What a taken-over browser may send: too few pixels, a camera of words."""
    good = {"camera": {"position": [1, 2, 3], "target": [0, 0, 0], "fov": 30, "near": 1, "far": 9}, "triangles": 1}
    good |= {"chromium": "1", "three": "1", "renderer": "x", "problems": []}
    assert _shot(good, bytes(16 * 16 * 4), 16, 0.1).picture.triangles == 1
    for head, body in (
        (good, b"short"),
        (good | {"camera": {"position": "abc"}}, bytes(1024)),
        (good | {"triangles": "many"}, bytes(1024)),
        (good | {"problems": None}, bytes(1024)),
        ({}, bytes(1024)),
    ):
        with pytest.raises(SandboxCrash, match="makes no sense"):
            _shot(head, body, 16, 0.1)


@pytest.mark.parametrize("size", [0, 15, 2049])
def test_size_is_checked(previewer: Previewer, size: int) -> None:
    with pytest.raises(ValueError, match="16 to 2048"):
        previewer.render(models.box(), size=size)


def test_too_large_a_model_is_refused_before_it_is_sent(previewer: Previewer) -> None:
    with pytest.raises(SandboxLimit, match="256 MB"):
        previewer.render(memoryview(bytes((256 << 20) + 1)))


@pytest.mark.slow
def test_two_hundred_models_on_one_browser() -> None:
    """Past the renewal of the page, with no growth that goes on."""
    with Previewer() as previewer:
        previewer.render(models.textured(256), size=128)
        worker = worker_of(previewer)

        def memory() -> int:
            return sum(p.memory_info().rss for p in worker.children(recursive=True))

        sizes = []
        for i in range(230):
            previewer.render(models.textured(256, seed=i % 7) if i % 4 == 0 else models.small_asset(i), size=128)
            if i % 50 == 49:
                sizes.append(memory())
        assert sizes[-1] < 1.5 * sizes[0]
        assert worker_of(previewer) == worker  # never started anew
