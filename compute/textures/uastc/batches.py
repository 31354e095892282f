"""Many pictures, few launches: packs them, and copies the next batch while the last is encoded.

    blocks = BatchEncoder("cuda:0").encode(pictures, level="default")

Two slots take turns. Each has page-locked memory on the host, arrays on the device and a stream of its own, so that
while one encodes, the other's texels go down and its blocks come up, and the host packs what comes after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import warp as wp

from cloudbaker.compute.textures.uastc import kernels, many
from cloudbaker.compute.textures.uastc.encode import BLOCK, BLOCK_BYTES

if TYPE_CHECKING:
    from cloudbaker.compute.textures.uastc.kernels import Level

Pixels = npt.NDArray[np.uint8]

LARGEST_BATCH = 4 << 20
"""Blocks in a launch: 64 megapixels, 0.6 GB with both slots. More would only make the first wait longer."""
MOST_PICTURES = 4096
"""In a launch."""
_SLOTS = 2
_BYTES_PER_BLOCK = BLOCK * BLOCK * 4 + BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of blocks of a picture."""

    picture: int
    pixels: Pixels
    at: int
    """Its first block within the picture's."""
    across: int
    blocks: int


class BatchEncoder:
    """Encodes on one device: ``cuda:0`` …, or ``cpu`` (one thread; for tests, and to prove a GPU against).

    `batch_blocks` bounds a launch; default: what fits twice into `share` of the device's free memory. Not thread-safe.

    Raises RuntimeError where Warp has no such device or the kernel does not compile for it.
    """

    def __init__(self, device: str, *, batch_blocks: int | None = None, share: float = 0.5) -> None:
        wp.init()  # type: ignore[no-untyped-call]
        self.device = wp.get_device(device)
        fitting = LARGEST_BATCH
        if self.device.is_cuda:
            fitting = int(self.device.free_memory * share) // (_SLOTS * _BYTES_PER_BLOCK)
        self.batch_blocks = max(1, min(LARGEST_BATCH, fitting, batch_blocks or LARGEST_BATCH))
        self._tables = kernels.device_tables(self.device.alias)
        self._slots = [_Slot(self) for _ in range(_SLOTS)]
        self.launches = 0
        """Since it was made."""

    def encode(self, pictures: Sequence[Pixels], *, level: Level = "default") -> list[bytes]:
        """UASTC blocks of each of (h, w, 4) pictures, as `encode_uastc` gives them. Raises ValueError as that does."""
        for pixels in pictures:
            if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape:
                raise ValueError(f"pixels must be (h, w, 4) of 8 bits, not {pixels.shape} of {pixels.dtype}")
        effort = kernels.effort(kernels.EFFORTS[level], self.device.alias)
        out = [np.empty(_across(p) * _down(p) * BLOCK_BYTES, np.uint8) for p in pictures]
        for number, batch in enumerate(self._batches(pictures)):
            slot = self._slots[number % _SLOTS]
            slot.collect(out)  # what it was given two batches ago
            slot.send(batch, effort, self._tables)
            self.launches += 1
        for slot in self._slots:
            slot.collect(out)
        return [blocks.tobytes() for blocks in out]

    def _batches(self, pictures: Sequence[Pixels]) -> Iterator[list[_Part]]:
        """In order, each full, pictures cut between rows of blocks where they would not fit."""
        batch: list[_Part] = []
        room = self.batch_blocks
        for index, pixels in enumerate(pictures):
            across, down, row = _across(pixels), _down(pixels), 0
            while row < down:
                rows = min(down - row, room // across)
                if batch and (rows < 1 or len(batch) == MOST_PICTURES):
                    yield batch
                    batch, room = [], self.batch_blocks
                    continue
                rows = max(rows, 1)  # of a picture wider than a batch: a launch larger than others
                part = pixels[row * BLOCK : (row + rows) * BLOCK]
                batch.append(_Part(index, part, row * across, across, rows * across))
                room -= rows * across
                row += rows
        if batch:
            yield batch


class _Slot:
    """Memory for one batch, and a stream."""

    def __init__(self, owner: BatchEncoder) -> None:
        self.device = owner.device
        self.cuda = bool(owner.device.is_cuda)
        self.stream = wp.Stream(self.device) if self.cuda else None
        self.most = owner.batch_blocks
        self.room = 0
        self.parts: list[_Part] = []

    def send(self, parts: list[_Part], effort: Any, tables: tuple[Any, Any]) -> None:
        """Copy a batch down, encode it, copy its blocks up; on CUDA all of it behind the caller's back."""
        blocks = sum(part.blocks for part in parts)
        self._grow(blocks)
        texels, rows, at, first = _view(self.host_texels), _view(self.host_rows), 0, 0
        for number, part in enumerate(parts):
            height, width = part.pixels.shape[:2]
            texels[at : at + height * width] = np.ascontiguousarray(part.pixels).view(np.uint32).reshape(-1)
            rows[number] = (at, width, height, part.across, first)
            at, first = at + height * width, first + part.blocks
        self.parts = parts
        wp.copy(self.texels, self.host_texels, count=at, stream=self.stream)
        wp.copy(self.rows, self.host_rows, count=len(parts) * many.COLUMNS, stream=self.stream)
        wp.launch(
            many.encode_many,
            dim=blocks,
            inputs=[self.texels, self.rows, len(parts), *tables, effort, self.out],
            device=self.device,
            stream=self.stream,
        )
        wp.copy(self.host_out, self.out, count=2 * blocks, stream=self.stream)

    def collect(self, out: list[npt.NDArray[np.uint8]]) -> None:
        """Wait for the batch, if there is one, and put its blocks where they belong."""
        if not self.parts:
            return
        if self.stream is not None:
            wp.synchronize_stream(self.stream)
        done, at = _view(self.host_out).view(np.uint8), 0
        for part in self.parts:
            size = part.blocks * BLOCK_BYTES
            out[part.picture][part.at * BLOCK_BYTES :][:size] = done[at : at + size]
            at += size
        self.parts = []

    def _grow(self, blocks: int) -> None:
        if blocks <= self.room:
            return
        # To the next power of two: a few allocations in all, and small batches stay small.
        self.room = max(blocks, min(1 << (blocks - 1).bit_length(), self.most))
        texels = self.room * BLOCK * BLOCK
        host: dict[str, Any] = {"device": "cpu", "pinned": self.cuda}
        self.host_texels = wp.empty(texels, dtype=wp.uint32, **host)
        self.host_rows = wp.empty((MOST_PICTURES, many.COLUMNS), dtype=wp.int32, **host)
        self.host_out = wp.empty(2 * self.room, dtype=wp.uint64, **host)
        self.texels = wp.empty(texels, dtype=wp.uint32, device=self.device)
        self.rows = wp.empty((MOST_PICTURES, many.COLUMNS), dtype=wp.int32, device=self.device)
        self.out = wp.empty(2 * self.room, dtype=wp.uint64, device=self.device)


def _view(array: Any) -> Any:
    """An array of the host's as NumPy's, without a copy."""
    return array.numpy()


def _across(pixels: Pixels) -> int:
    return -(-int(pixels.shape[1]) // BLOCK)


def _down(pixels: Pixels) -> int:
    return -(-int(pixels.shape[0]) // BLOCK)
