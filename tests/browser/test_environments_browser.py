"""Environment maps in the real Chromium: three.js lights spheres with what was made of a panorama, and with the
panorama itself. The same picture says that faces, orientation, roughness of the mipmaps and the file are right."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloudbaker.compute.npm import npm_file
from cloudbaker.compute.previews.worker import FLAGS, MIME, ORIGIN
from cloudbaker.compute.textures.hdr import HdrOptions, encode_hdr
from cloudbaker.compute.textures.radiance import Light, write_radiance
from cloudbaker.settings import settings

pytestmark = pytest.mark.chromium

WIDTH, HEIGHT = 320, 64
DOCS = Path(__file__).parents[2] / "docs" / "textures-formats.md"
PAGE = """<!doctype html><meta charset="utf-8">
<script type="importmap">
  { "imports": { "three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/" } }
</script>
<script type="module">
  import * as THREE from 'three'
  import { HDRLoader } from 'three/addons/loaders/HDRLoader.js'
  import { KTX2Loader } from 'three/addons/loaders/KTX2Loader.js'
  import { loadCube } from '/cube.js'

  const renderer = new THREE.WebGLRenderer({ preserveDrawingBuffer: true })
  const camera = new THREE.OrthographicCamera(-5, 5, 1, -1, 0.1, 10)
  camera.position.set(0, 0, 5)
  const ball = new THREE.SphereGeometry(0.95, 64, 32)
  const ktx2 = new KTX2Loader().setTranscoderPath('/three/examples/jsm/libs/basis/').detectSupport(renderer)

  window.light = async (url, width, height) => {
    const scene = new THREE.Scene()
    if (url.includes('cube')) {
      scene.environment = await loadCube(url, url.includes('prefiltered'))
    } else {
      scene.environment = await (url.endsWith('.hdr') ? new HDRLoader() : ktx2).loadAsync(url)
      scene.environment.mapping = THREE.EquirectangularReflectionMapping
    }
    for (let n = 0; n < 5; n++) {
      const matt = n === 4 ? { metalness: 0, roughness: 1 } : { metalness: 1, roughness: n / 4 + 0.05 }
      const mesh = new THREE.Mesh(ball, new THREE.MeshStandardMaterial(matt))
      mesh.position.x = 2 * n - 4
      scene.add(mesh)
    }
    renderer.setSize(width, height, false)
    renderer.render(scene, camera)
    const gl = renderer.getContext()
    const pixels = new Uint8Array(width * height * 4)
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels)
    return btoa(String.fromCharCode(...pixels))
  }
  window.ready = true
</script>"""


def documented() -> str:
    """The loader that the documentation gives away."""
    return DOCS.read_text("utf-8").partition("```js\n")[2].partition("```")[0]


def room() -> Light:
    """A panorama that looks another way in every direction: warm from +x, green from above, blue from +z, a lamp."""
    u, v = (np.arange(512) + 0.5) / 512, (np.arange(256) + 0.5) / 256
    around, above = (u - 0.5) * 2 * np.pi, (0.5 - v)[:, None] * np.pi
    x, y, z = np.cos(above) * np.cos(around), np.sin(above) * np.ones_like(around), np.cos(above) * np.sin(around)
    light = np.stack([0.3 + 0.25 * x, 0.3 + 0.25 * y, 0.3 + 0.25 * z], axis=-1)
    lamp = np.exp(-np.square((x - 0.5) / 0.2) - np.square((y - 0.6) / 0.2) - np.square((z - 0.62) / 0.2))
    return (light + 4 * lamp[..., None]).astype(np.float32)


class Page:
    """A page with three.js, and the files that it may load."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.files: dict[str, bytes] = {}
        page.route("**/*", self._serve)
        page.goto(f"{ORIGIN}/page.html")
        page.wait_for_function("window.ready", timeout=30_000)

    def light(self, name: str, data: bytes) -> np.ndarray:
        """(height, width, 3) of five spheres in the light of a file."""
        self.files[f"/{name}"] = data
        pixels = base64.b64decode(self.page.evaluate("([u, w, h]) => light(u, w, h)", [f"/{name}", WIDTH, HEIGHT]))
        return np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH, 4)[::-1, :, :3].astype(float)

    def _serve(self, route: Any) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path == "/page.html":
            route.fulfill(body=PAGE, content_type="text/html")
        elif path == "/cube.js":
            route.fulfill(body=documented(), content_type=MIME[".js"])
        elif path.startswith("/three/"):
            file = npm_file(f"three/{path[7:]}")
            route.fulfill(body=file.read_bytes(), content_type=MIME[file.suffix])
        elif path in self.files:
            route.fulfill(body=self.files[path], content_type="application/octet-stream")
        else:
            route.fulfill(status=404, body="")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Everything it loads is made here: Chromium's own sandbox, which root can't have, is not missed.
        browser = playwright.chromium.launch(
            executable_path=str(settings().chromium), args=list(FLAGS), chromium_sandbox=False
        )
        yield Page(browser.new_page())
        browser.close()


MADE = {
    "cube-prefiltered.ktx2": HdrOptions("ktx2-rgb9e5", cube=True, prefilter=True),
    "panorama.ktx2": HdrOptions("ktx2-rgb9e5"),
    "cube.ktx2": HdrOptions("ktx2-rgb9e5", cube=True),
    "small.hdr": HdrOptions("hdr", max_size=256),
}


@pytest.fixture(scope="module")
def wanted(page: Page) -> np.ndarray:
    picture = page.light("room.hdr", write_radiance(room()))
    assert picture.std() > 30  # there is something to see
    return picture


# Three prefilters what is not: 5 s without a GPU, each time. The first two show all that can be wrong with a file.
@pytest.mark.parametrize("name", [*list(MADE)[:2], *(pytest.param(n, marks=pytest.mark.slow) for n in list(MADE)[2:])])
def test_three_lights_with_our_files_as_with_the_panorama(page: Page, wanted: np.ndarray, name: str) -> None:
    off = np.abs(page.light(name, encode_hdr(write_radiance(room()), MADE[name]).data) - wanted)
    assert off.mean() < 0.6  # of 255; 0.28 for the prefiltered cube map, against three's own filter
    assert np.percentile(off, 99) < 4
