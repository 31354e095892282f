"""The scan of Godot mods: how fast, and what it sees that a search for words and PyPI's godot_parser do not.

    python benchmarks/godot_scan.py [--small] > benchmarks/results/godot_scan.md

All content is generated. `grep` is the list of words that people search mods for; `godot_parser` is installed into an
environment of its own and given a check that looks for scripts, network nodes, connections and paths outside.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import numpy as np
from peers import HERE, python_peer

from cloudbaker.compute.godot.policy import Policy, load_policy
from cloudbaker.compute.godot.scan import scan
from cloudbaker.model import VerdictKind
from cloudbaker.testing import models
from cloudbaker.testing.godot_harmless import HARMLESS
from cloudbaker.testing.godot_hostile import ATTACKS, Attack
from cloudbaker.testing.godot_mods import GODOT_4, as_pck, mod
from cloudbaker.testing.writer import encode_image

WORDS = re.compile(
    rb"\bscript\b|GDScript|\.gd\b|\.cs\b|HTTPRequest|\[connection|gdextension|gdnlib|Object\(|expression"
)
ENGINE_OF = {3: "3.6", 4: "4.6.3"}
TEXTS = (".tscn", ".tres")
POLICY = load_policy()


def scene(nodes: int) -> bytes:
    """Nodes with a few properties each: the densest text there is."""
    body = "".join(
        GODOT_4.child(
            "MeshInstance3D",
            f"transform = Transform3D(1, 0, 0, 0, 1, 0, 0, 0, 1, {n}, 0, 0)\nmesh = {GODOT_4.sub(1)}\nvisible = false\n"
            f'metadata/tag = {{\n"a": [1, 2, 3],\n"b": "text {n}"\n}}\n',
            name=f"N{n}",
        )
        for n in range(nodes)
    )
    return GODOT_4.scene(GODOT_4.root() + body, GODOT_4.sub_resource("BoxMesh", 1))


def mesh(count: int) -> bytes:
    """A mesh as a list of bytes, as Godot 4.0 to 4.2 write it."""
    numbers = ", ".join(map(str, np.random.default_rng(0).integers(0, 255, count)))
    return GODOT_4.resource(
        "ArrayMesh", f'_surfaces = [{{\n"format": 4097,\n"vertex_data": PackedByteArray({numbers})\n}}]\n'
    )


def animation(tracks: int) -> bytes:
    """Value tracks of 60 keys."""
    times = ", ".join(f"{n / 30:.4f}" for n in range(60))
    values = ", ".join(f"Vector3({n}, {n / 3:.5f}, 0)" for n in range(60))
    body = "".join(
        f'tracks/{n}/type = "value"\ntracks/{n}/path = NodePath("Bone{n}:position")\ntracks/{n}/keys = {{\n'
        f'"times": PackedFloat32Array({times}),\n"update": 0,\n"values": [{values}]\n}}\n'
        for n in range(tracks)
    )
    return GODOT_4.resource("Animation", f"length = 2.0\n{body}")


def media(megabytes: int) -> bytes:
    """A pack of uncompressed pictures, sounds and models."""
    random = np.random.default_rng(0)
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(random.bytes(megabytes << 19))
    picture = encode_image(random.integers(0, 255, (1024, 1024, 3), dtype=np.uint8), compress_level=0)
    count = max(1, megabytes // 8)
    files = {f"{n}.png": picture for n in range(count)} | {"a.wav": sound.getvalue(), "b.glb": models.grid(256)}
    return as_pck(mod(files))


def cpu_seconds(call: Callable[[], object], times: int) -> float:
    """The best of several calls: neighbours on the machine only ever add."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def ours(inputs: Mapping[str, bytes], attack: Attack | None = None, engine: str = "4.6.3") -> bool:
    policy = POLICY
    if attack is not None and attack.policy:
        policy = Policy.model_validate({**POLICY.model_dump(mode="json"), **attack.policy})
    links = attack.links if attack is not None else ()
    views = {name: memoryview(data) for name, data in inputs.items()}
    return scan(views, policy, engine=engine, special=links).verdict.kind is VerdictKind.REJECT


def parsed(files: Mapping[str, bytes]) -> dict[str, tuple[float, bool, str]] | None:
    """What godot_parser makes of text resources; None where it can't be installed."""
    try:
        python = python_peer("godot-parser", "python")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"godot_parser can't be installed: {error}", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for number, (name, data) in enumerate(files.items()):
            path = Path(folder, f"{number}{Path(name.split('|')[-1]).suffix}")
            path.write_bytes(data)
            lines.append(f"{name}\t{path}")
        done = subprocess.run(
            [*python, str(HERE / "peers" / "godot_parser_scan.py")],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=1800,
            check=True,
        )
    return {name: (float(s), bool(f), str(e)) for name, (s, f, e) in json.loads(done.stdout).items()}


def speed(small: bool) -> None:
    """The first table."""
    times = 2 if small else 5
    texts = {
        "scene of nodes": ("x.tscn", scene(1000 if small else 9000)),
        "mesh as numbers": ("x.tres", mesh(200_000 if small else 2_000_000)),
        "animation": ("x.tres", animation(50 if small else 800)),
    }
    peer = parsed({f"{name}|{file}": data for name, (file, data) in texts.items()})
    print("| content | MB | scan MB/s | grep MB/s | godot_parser MB/s |\n|---|---:|---:|---:|---:|")
    pack = media(16 if small else 256)
    rates = [
        len(pack) / 1e6 / cpu_seconds(call, times)
        for call in (lambda: ours({"m.pck": pack}), lambda: WORDS.search(pack))
    ]
    print(f"| pack of media, MD5 included | {len(pack) / 1e6:.1f} | {rates[0]:,.0f} | {rates[1]:,.0f} | – |")
    for name, (file, data) in texts.items():
        inputs = {"manifest.tres": GODOT_4.manifest(entry_scenes="[]"), file: data}
        rate = len(data) / 1e6 / cpu_seconds(lambda i=inputs: ours(i), times)
        words = len(data) / 1e6 / cpu_seconds(lambda d=data: WORDS.findall(d), times)
        seconds, _, error = peer[f"{name}|{file}"] if peer else (0.0, False, "not installed")
        other = error or f"{len(data) / 1e6 / seconds:.2f}"
        print(f"| {name} | {len(data) / 1e6:.1f} | {rate:.1f} | {words:,.0f} | {other} |")


def sight(small: bool) -> None:
    """The second table: what each of them stops, of the hostile and of the everyday mods."""
    step = 21 if small else 1
    bad = ATTACKS[::step]
    good = HARMLESS[::step]
    bad_inputs = {str(attack): attack.make() for attack in bad}
    good_inputs = {str(item): item.files() for item in good}
    stopped = sum(ours(bad_inputs[str(a)], a, ENGINE_OF[a.engine]) for a in bad)
    refused = sum(ours(item.make(), engine=ENGINE_OF[item.engine]) for item in good)
    seen = sum(any(WORDS.search(name.encode() + b"\n" + d) for name, d in i.items()) for i in bad_inputs.values())
    alarms = sum(any(WORDS.search(d) for d in files.values()) for files in good_inputs.values())
    print("\n| | hostile mods stopped | harmless mods refused |\n|---|---:|---:|")
    print(f"| scan | {stopped:,} of {len(bad):,} | {refused} of {len(good)} |")
    print(f"| grep over all bytes and names | {seen:,} of {len(bad):,} | {alarms} of {len(good)} |")
    folders = [a for a in bad if a.form == "folder"]
    texts = {
        f"{a}|{p}": d for a in folders for p, d in bad_inputs[str(a)].items() if p.endswith(TEXTS) and len(d) < 1 << 17
    }
    texts |= {f"+{i}|{p}": d for i in good for p, d in good_inputs[str(i)].items() if p.endswith(TEXTS)}
    answers = parsed(texts)
    if answers is None:
        return
    for label, unreadable in (("godot_parser, what it can't read passes", False), ("… is refused", True)):
        caught = {name.split("|")[0] for name, (_, found, error) in answers.items() if found or (unreadable and error)}
        wrong = sum(f"+{item}" in caught for item in good)
        print(
            f"| {label} | {sum(str(a) in caught for a in folders)} of {len(folders)} folders | {wrong} of {len(good)} |"
        )


def main() -> None:
    """Print both tables."""
    small = "--small" in sys.argv
    print("# Scanning Godot mods\n")
    print(
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} shared vCPUs, one of them used; Python "
        f"{platform.python_version()}; CPU time, best of several. `python benchmarks/godot_scan.py`"
        f"{' --small: a sample, not to be quoted' if small else ''}\n"
    )
    speed(small)
    sight(small)


if __name__ == "__main__":
    main()
