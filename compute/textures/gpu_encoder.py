"""The actor that owns a GPU, or a fraction of one: texels of many assets in, UASTC blocks out.

Workers call it from their sandboxes' outside (`handover`), many at once. What arrives while the GPU is busy goes into
its next launch together, so that small textures and mipmaps fill it as well as large ones, and nobody waits for
company. A plain class without Ray in it: `cloudbaker.compute.crew` makes an actor of it.

A GPU is used only if it gives the CPU's bytes, because a bake key promises them on any machine. The arithmetic is meant
to (integers, and floating point without contraction), but nobody here has seen each card and driver: so the actor
encodes some thousand blocks of all kinds on both when it starts, and some blocks of every launch again afterwards. One
byte that differs ends its use.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from cloudbaker import logs
from cloudbaker.errors import CloudBakerError, ComputeUnavailable

if TYPE_CHECKING:
    from cloudbaker.compute.textures.uastc.batches import BatchEncoder
    from cloudbaker.compute.textures.uastc.kernels import Level

Pixels = npt.NDArray[np.uint8]

PROOF_SIDE = 256
"""Texels a side of the picture that a device is proven on: 4,096 blocks at each level."""
BLOCK_BYTES = 16
AUDITED = 32
"""Blocks of a launch that the CPU makes again: at most 0.5 ms."""

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What the actor says about itself when it is ready; goes into the metrics of what it makes."""

    device: str
    """``cuda``, or ``cpu`` in tests."""
    name: str
    """Of the card."""
    memory_bytes: int
    batch_blocks: int
    """Most blocks in a launch."""
    proven_blocks: int
    """Encoded on it and on the CPU when it started, without a difference."""
    node: str = ""


@dataclass(slots=True)
class _Request:
    level: str
    pictures: list[Pixels]
    future: Future[tuple[npt.NDArray[np.uint8], dict[str, Any]]]


class GpuEncoder:
    """Encodes for many callers on one device. `share` of its free memory is used at most."""

    def __init__(self, device: str = "cuda:0", *, share: float = 0.2, batch_blocks: int | None = None) -> None:
        self._device = device
        self._share = share
        self._batch_blocks = batch_blocks
        self._encoder: BatchEncoder | None = None
        self._facts: GpuFacts | None = None
        self._waiting: SimpleQueue[_Request | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._wrong: ComputeUnavailable | None = None
        self._launches = 0
        logs.configure()

    def start(self) -> GpuFacts | CloudBakerError:
        """Compile the kernel for the device (20 s the first time), prove it, and be ready. An error where it is no use:
        no such device, not enough memory, other bytes than the CPU's."""
        try:
            if self._facts is None:
                self._facts = self._start()
                self._thread = threading.Thread(target=self._work, name="cloudbaker-gpu", daemon=True)
                self._thread.start()
        except CloudBakerError as error:
            return error
        except Exception as error:  # Warp's own: no driver, no such device, out of memory, a kernel that won't compile
            return ComputeUnavailable(
                f"textures can't be encoded on {self._device}: the CPU does it instead",
                detail=f"{type(error).__name__}: {error}",
            )
        return self._facts

    def _start(self) -> GpuFacts:
        from cloudbaker.compute.textures.uastc.batches import BatchEncoder
        from cloudbaker.compute.textures.uastc.kernels import EFFORTS

        self._encoder = encoder = BatchEncoder(self._device, share=self._share, batch_blocks=self._batch_blocks)
        proof = proof_picture(PROOF_SIDE)
        for level in EFFORTS:
            self._compare([proof], encoder.encode([proof], level=level), level)
        return GpuFacts(
            device="cuda" if encoder.device.is_cuda else "cpu",
            name=str(encoder.device.name),
            memory_bytes=int(encoder.device.total_memory) if encoder.device.is_cuda else 0,
            batch_blocks=encoder.batch_blocks,
            proven_blocks=len(EFFORTS) * (PROOF_SIDE // 4) ** 2,
            node=_node(),
        )

    def encode(
        self, level: str, sizes: Sequence[tuple[int, int]], texels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]] | CloudBakerError:
        """UASTC blocks of pictures of `sizes` (width, height), whose RGBA texels lie one after the other; and facts:
        those of `GpuFacts`, ``blocks`` of this call, ``launch_blocks`` in all with those of other callers, and the
        ``seconds`` of the launch that fall to this call's.

        Thread-safe. What goes wrong comes back as an error, because Ray would wrap an exception.
        """
        if self._wrong is not None:
            return self._wrong
        pictures, at = [], 0
        for width, height in sizes:
            size = width * height * 4
            pictures.append(texels[at : at + size].reshape(height, width, 4))
            at += size
        request = _Request(level, pictures, Future())
        self._waiting.put(request)
        try:
            return request.future.result()
        except CloudBakerError as error:
            return error

    def stay(self) -> None:
        """Return when the actor ends, and never before: how the driver hears of its death."""
        threading.Event().wait()

    def stop(self) -> None:
        """End the thread that encodes."""
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            together = [self._waiting.get()]
            with suppress(Empty):
                while True:
                    together.append(self._waiting.get_nowait())
            requests = [request for request in together if request is not None]
            for level in dict.fromkeys(request.level for request in requests):
                self._launch(level, [request for request in requests if request.level == level])
            if None in together:
                return

    def _launch(self, level: str, together: list[_Request]) -> None:
        assert self._encoder is not None, "start() comes first"
        assert self._facts is not None, "start() comes first"
        pictures = [picture for request in together for picture in request.pictures]
        try:
            before = time.perf_counter()
            blocks = self._encoder.encode(pictures, level=cast("Level", level))
            seconds = time.perf_counter() - before
            self._launches += 1
            self._audit(pictures, blocks, level)
        except Exception as error:
            wrong = (
                error
                if isinstance(error, CloudBakerError)
                else ComputeUnavailable(
                    f"encoding on {self._facts.name} failed: the CPU does it instead",
                    detail=f"{type(error).__name__}: {error}",
                )
            )
            for request in together:
                request.future.set_exception(wrong)
            return
        total, made = sum(map(len, blocks)), iter(blocks)
        for request in together:
            mine = b"".join(next(made) for _ in request.pictures)
            facts = {
                **asdict(self._facts),
                "seconds": round(seconds * len(mine) / total, 6),
                "blocks": len(mine) // BLOCK_BYTES,
                "launch_blocks": total // BLOCK_BYTES,
            }
            request.future.set_result((np.frombuffer(mine, np.uint8), facts))

    def _audit(self, pictures: list[Pixels], blocks: list[bytes], level: str) -> None:
        """Compare some blocks, of other pictures and places in each launch."""
        random = np.random.default_rng(self._launches)
        some, made = [], []
        for index in random.integers(0, len(pictures), AUDITED):
            height, width = pictures[index].shape[:2]
            row, column = int(random.integers(-(-height // 4))), int(random.integers(-(-width // 4)))
            some.append(pictures[index][row * 4 : row * 4 + 4, column * 4 : column * 4 + 4])
            at = (row * -(-width // 4) + column) * BLOCK_BYTES
            made.append(blocks[index][at : at + BLOCK_BYTES])
        self._compare(some, made, level)

    def _compare(self, pictures: Sequence[Pixels], blocks: Sequence[bytes], level: str) -> None:
        """Raises ComputeUnavailable, now and on every later call, where the CPU makes other blocks."""
        from cloudbaker.compute.textures.uastc import encode_uastc

        for picture, made in zip(pictures, blocks, strict=True):
            if encode_uastc(np.ascontiguousarray(picture), level=cast("Level", level)) != made:
                self._wrong = ComputeUnavailable(
                    f"{self._device} gives other bytes than the CPU, which encodes the textures then: "
                    "please report the card and its driver",
                    device=self._device,
                    level=level,
                )
                log.error("a GPU gives other texture blocks than the CPU", device=self._device, level=level)
                raise self._wrong


def proof_picture(side: int) -> Pixels:
    """(side, side, 4) texels of blocks of many kinds: lines and pairs of colours, three of them, noise, plain ones,
    grey and opaque ones, alpha that follows the colour and alpha that does not. The same each time."""
    random = np.random.default_rng(20261121)
    count = (side // 4) ** 2
    ends = random.integers(0, 256, (count, 3, 4)).astype(np.float64)
    spread = random.random((count, 1, 1)) ** 2
    ends = ends[:, :1] * (1 - spread) + ends * spread
    along = random.random((count, 16)) * np.where(random.random((count, 1)) < 0.2, 0, 1)
    along = np.where(random.random((count, 1)) < 0.4, np.rint(along), along)[..., None]
    texels = ends[:, :1] * (1 - along) + ends[:, 1:2] * along
    third = (random.random((count, 16)) < random.random((count, 1)) * 0.5)[..., None]
    texels = np.where(third, ends[:, 2:], texels)
    texels += random.normal(0, 1, texels.shape) * random.choice([0, 0, 1, 4, 24], (count, 1, 1))
    kind = random.random(count)
    texels[kind < 0.2, :, :3] = texels[kind < 0.2, :, :1]
    texels[(kind < 0.1) | (kind > 0.6), :, 3] = 255
    blocks = np.clip(np.rint(texels), 0, 255).astype(np.uint8).reshape(side // 4, side // 4, 4, 4, 4)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3, 4).reshape(side, side, 4))


def _node() -> str:
    """Ray's id of this node, where this is an actor."""
    if "RAY_JOB_ID" not in os.environ:
        return ""
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
