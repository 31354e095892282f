"""Sound to Ogg Vorbis quality 7: how many times faster than real time on one core, beside oggenc and ffmpeg.

    python benchmarks/audio.py [--seconds 600] > benchmarks/results/audio.md

The peers are Debian's programs (packages vorbis-tools and ffmpeg), left out where they are not installed. Ours also
measures loudness, fixes the serial number, and decodes the result to compare it with the source; they only encode.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from cloudbaker.compute.audio.transcode import _comment, _encode, _fix_serial, measure, transcode
from cloudbaker.compute.job import Job, Limits
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.testing.godot_demo import sound


def cpu_of(command: list[str]) -> float:
    """CPU seconds of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_here(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def encode_only(data: bytes, target: Path) -> None:
    """What the peers do: encode, no more."""
    with target.open("w+b") as file:
        source = measure(data[:200_044])  # of the header and a second: `_encode` needs rate and channels
        _encode(memoryview(data), source, file, 7)
        _comment(file, source)
        _fix_serial(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    rows: list[tuple[str, float, int, float, str]] = []
    with tempfile.TemporaryDirectory() as folder, Sandbox(parallel=1) as sandbox:
        wav, ogg = Path(folder, "in.wav"), Path(folder, "out.ogg")
        data = sound(seconds, channels=2)
        wav.write_bytes(data)
        limits = Limits(wall_seconds=3600.0, cpu_seconds=3600)
        job = Job("cloudbaker.compute.audio.transcode:transcode_job", {"audio": wav}, limits=limits)
        outcome = sandbox.run(job).unwrap()
        memory = f"{(outcome.peak_bytes - len(data)) / 1e6:.0f} MB"
        rows.append(("ours, whole (sandbox)", outcome.cpu_seconds, len(outcome.files["audio"]), 7, memory))
        rows.append(("ours, encoding alone", cpu_here(lambda: encode_only(data, ogg)), ogg.stat().st_size, 7, ""))
        peers = {
            "oggenc": ["oggenc", "-Q", "-q7", "-o", str(ogg), str(wav)],
            "ffmpeg": ["ffmpeg", "-y", "-threads", "1", "-i", str(wav), "-c:a", "libvorbis", "-q:a", "7", str(ogg)],
        }
        for name, command in peers.items():
            if shutil.which(name):
                rows.append((name, cpu_of(command), ogg.stat().st_size, 7, ""))
        small = transcode(sound(10, channels=2))
    machine = f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores"
    print("# Sound\n")
    print(f"`python benchmarks/audio.py --seconds {seconds:g}`, {machine},")
    print(
        f"Python {platform.python_version()}. A generated stereo WAV, 44.1 kHz, {len(data) / 1e6:.0f} MB. One core.\n"
    )
    print("| | CPU | × real time | bytes | memory beside the source |")
    print("|---|---|---|---|---|")
    for name, cpu, size, _, used in rows:
        print(f"| {name} | {cpu:.1f} s | {seconds / cpu:.0f} | {size:,} | {used} |")
    print(f"\nSignal to noise of ours at quality 7, decoded again: {small.snr_db:.1f} dB.")


if __name__ == "__main__":
    main()
