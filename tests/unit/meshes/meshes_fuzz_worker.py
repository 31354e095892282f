"""Decode mutated payloads in a process of its own: ``python meshes_fuzz_worker.py draco|meshopt COUNT SEED``.

Prints ``ok refused`` counts. Anything but the deliberate error types ends it with a traceback, a crash with a signal.
"""

from __future__ import annotations

import resource
import sys

import numpy as np

from cloudbaker.compute.meshes import draco, meshopt
from cloudbaker.testing import shapes

MEMORY = 768 << 20


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, cut off, doubled or inserted; headers are hit more often than their share."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if not out:
            break
        at = int(rng.integers(0, min(len(out), 48) if rng.random() < 0.4 else len(out)))
        match int(rng.integers(0, 6)):
            case 0:
                out[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                out[at] = int(rng.integers(0, 256))
            case 2:
                out[at : at + 4] = b"\xff\xff\xff\xff"
            case 3:
                del out[at : at + int(rng.integers(1, 64))]
            case 4:
                out[at:at] = out[at : at + int(rng.integers(1, 64))]
            case 5:
                out[at:at] = rng.bytes(int(rng.integers(1, 16)))
    return bytes(out)


def draco_seeds() -> list[bytes]:
    seeds = []
    for segments in (3, 8, 24):
        surface = shapes.sphere(segments=segments)
        attributes = {"POSITION": surface.positions, "NORMAL": surface.normals, "TEXCOORD_0": surface.uvs}
        count = len(surface.positions)
        extra = {"JOINTS_0": np.zeros((count, 4), np.uint8), "_X": np.ones((count, 1), np.float32)}
        seeds.append(draco.encode(attributes, surface.indices).data)
        seeds.append(draco.encode({**attributes, **extra}, surface.indices, draco.DracoOptions(level=10)).data)
        soup = {k: v[surface.indices.ravel()] for k, v in attributes.items()}
        corners = np.arange(surface.indices.size).reshape(-1, 3)
        seeds.append(draco.encode(soup, corners, keep_source=True).data)  # sequential
    return seeds


def meshopt_seeds() -> list[tuple[bytes, dict]]:
    surface = shapes.sphere(segments=24)
    count = len(surface.positions)
    attributes = {"count": count, "mode": "ATTRIBUTES"}
    indices = {"count": surface.indices.size, "stride": 4}
    quaternions = np.tile(np.array([0.5, 0.5, 0.5, 0.5]), (count, 1))
    octahedral = meshopt.encode_filter_oct(surface.normals)
    return [
        (meshopt.encode_vertex_buffer(surface.positions), {**attributes, "stride": 12}),
        (
            meshopt.encode_vertex_buffer(meshopt.encode_filter_exp(surface.positions)),
            {**attributes, "stride": 12, "filter": "EXPONENTIAL"},
        ),
        (meshopt.encode_vertex_buffer(octahedral), {**attributes, "stride": 4, "filter": "OCTAHEDRAL"}),
        (
            meshopt.encode_vertex_buffer(meshopt.encode_filter_quat(quaternions)),
            {**attributes, "stride": 8, "filter": "QUATERNION"},
        ),
        (meshopt.encode_index_buffer(surface.indices, count), {**indices, "mode": "TRIANGLES"}),
        (meshopt.encode_index_sequence(surface.indices, count), {**indices, "mode": "INDICES"}),
    ]


def main(codec: str, count: int, seed: int) -> None:
    # What a payload may not get past. 300 damaged bytes make Draco ask for up to 1 GB of symbol tables, and fill them.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = np.random.default_rng(seed)
    seeds = draco_seeds() if codec == "draco" else meshopt_seeds()
    decoded = refused = 0
    for _ in range(count):
        chosen = seeds[int(rng.integers(0, len(seeds)))]
        try:
            if codec == "draco":
                result = draco.decode(mutated(chosen, rng))
                assert not result.indices.size or result.indices.max() < result.vertex_count
                assert all(len(v) == result.vertex_count for v in result.attributes.values())
            else:
                data, form = chosen
                if rng.random() < 0.3:
                    form = {**form, "count": int(rng.integers(1, 4 * form["count"]))}
                raw = meshopt.decode_buffer(mutated(data, rng), **form)
                assert len(raw) == form["count"] * form["stride"]
            decoded += 1
        except (draco.DracoError, meshopt.MeshoptError):
            refused += 1
    print(decoded, refused)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
