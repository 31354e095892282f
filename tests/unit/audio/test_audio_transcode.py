"""Sound to Ogg Vorbis: what is kept and why, the same bytes each time, loops, loudness, and damage of every kind."""

from __future__ import annotations

import io
import json
import math
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutagen.oggvorbis import OggVorbis

from cloudbaker.compute.audio.transcode import (
    AudioError,
    Loop,
    TranscodeOptions,
    measure,
    read_loop,
    transcode,
    transcode_job,
)
from cloudbaker.compute.job import Job, Limits, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.testing.godot_demo import sound

JOB = "cloudbaker.compute.audio.transcode:transcode_job"


def encoded(kind: str, seconds: float = 1.0, *, rate: int = 44100, channels: int = 2, **options: object) -> bytes:
    time = np.arange(round(seconds * rate)) / rate
    wave = np.stack([0.5 * np.sin(2 * np.pi * (440 + 30 * c) * time) for c in range(channels)], 1)
    target = io.BytesIO()
    soundfile.write(target, wave, rate, format=kind, **options)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_everything_becomes_ogg_vorbis_of_quality_7(kind: str) -> None:
    done = transcode(encoded(kind, 2.0))
    assert done.data is not None
    info = OggVorbis(io.BytesIO(done.data)).info
    assert (info.sample_rate, info.channels) == (44100, 2)
    assert info.bitrate == 224000  # nominal, as `oggenc -q7` writes it
    decoded, rate = soundfile.read(io.BytesIO(done.data))
    assert (len(decoded), rate) == (done.source.frames, 44100)
    assert done.snr_db > 30


def test_quality_is_the_recipes() -> None:
    rng = np.random.default_rng(0)
    target = io.BytesIO()
    soundfile.write(target, rng.uniform(-0.3, 0.3, (44100, 2)), 44100, format="WAV")
    sizes = [len(transcode(target.getvalue(), TranscodeOptions(quality=q)).data or b"") for q in (2, 5, 7, 9)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.7 * sizes[-1]


def test_the_same_sound_gives_the_same_bytes_and_every_page_is_sound() -> None:
    from mutagen.ogg import OggPage

    wav = sound(1.5, loop=(1000, 66149))
    first = transcode(wav).data
    assert first is not None
    assert first == transcode(wav).data
    file, pages = io.BytesIO(first), 0
    while True:
        try:
            page = OggPage(file)
        except EOFError:
            break
        pages += 1
        assert page.serial == 1
        start = page.offset
        raw = bytearray(first[start : start + page.size])
        checksum = raw[22:26]
        raw[22:26] = bytes(4)
        assert _ogg_crc(bytes(raw)) == int.from_bytes(checksum, "little")
    assert pages >= 3


def _ogg_crc(data: bytes) -> int:
    """The page checksum of RFC 3533, bit by bit: another way than the library's."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def test_loop_to_the_end_is_kept_in_the_comments() -> None:
    done = transcode(sound(1.0, loop=(11025, 44099)))
    assert done.source.loop == Loop(11025, 44100)
    assert done.data is not None
    tags = OggVorbis(io.BytesIO(done.data))
    assert (tags["LOOPSTART"], tags["LOOPLENGTH"], tags["LOOPEND"]) == (["11025"], ["33075"], ["44100"])


def test_loop_that_ends_before_the_sound_keeps_the_wav() -> None:
    done = transcode(sound(1.0, loop=(100, 20000)))
    assert done.data is None
    assert "loop" in done.reason


@pytest.mark.parametrize(
    ("loops", "expected"),
    [
        ([(0, 10, 99)], Loop(10, 100)),
        ([(1, 0, 9), (0, 5, 50)], Loop(5, 51)),  # the first one runs back and forth
        ([(0, 10, 100)], None),  # beyond the end
        ([(0, 50, 10)], None),
        ([], None),
    ],
)
def test_smpl_chunk(loops: list[tuple[int, int, int]], expected: Loop | None) -> None:
    body = bytes(28) + struct.pack("<2I", len(loops), 0)
    body += b"".join(struct.pack("<6I", 0, kind, a, b, 0, 0) for kind, a, b in loops)
    data = (
        b"RIFF\0\0\0\0WAVE" + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"smpl" + struct.pack("<I", len(body)) + body
    )
    assert read_loop(memoryview(data), 100) == expected


def test_smpl_chunk_that_lies_about_its_size_is_passed_over() -> None:
    for size, count in ((36, 1 << 31), (1 << 31, 1), (60, 1 << 31)):
        body = bytes(28) + struct.pack("<2I", count, 0) + struct.pack("<6I", 0, 0, 200, 900, 0, 0)
        data = b"RIFF\0\0\0\0WAVEsmpl" + struct.pack("<I", size) + body
        assert read_loop(memoryview(data), 100) is None


@pytest.mark.parametrize(
    ("data", "reason"), [(sound(0.1), "shorter"), (encoded("OGG", subtype="VORBIS"), "Ogg Vorbis already")]
)
def test_what_is_kept_and_why(data: bytes, reason: str) -> None:
    done = transcode(data)
    assert done.data is None
    assert reason in done.reason
    assert math.isinf(done.snr_db)


def test_loudness_is_measured() -> None:
    time = np.arange(44100) / 44100
    target = io.BytesIO()
    soundfile.write(target, np.sin(2 * np.pi * 441 * time), 44100, format="WAV", subtype="FLOAT")
    heard = measure(target.getvalue())
    assert heard.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert heard.peak_dbfs == pytest.approx(0.0, abs=0.01)
    silent = io.BytesIO()
    soundfile.write(silent, np.zeros(44100), 44100, format="WAV")
    assert math.isinf(measure(silent.getvalue()).rms_dbfs)
    value = transcode_job({"audio": memoryview(silent.getvalue())}, {}).value
    assert json.loads(json.dumps(value, allow_nan=False))["rms_dbfs"] is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "audio.unknown"),
        (b"not a sound at all", "audio.unknown"),
        (b"RIFF\x24\0\0\0WAVE", "audio.invalid"),
        (sound(1.0)[:30], "audio.invalid"),
        (encoded("WAV", 0.2, channels=6), "audio.channels"),
        (encoded("WAV", 0.2, rate=500, channels=1), "audio.rate"),
        (encoded("WAV", 0.0, channels=1), "audio.empty"),
        (encoded("FLAC")[:60], "audio.invalid"),
    ],
)
def test_what_no_engine_could_play_is_a_finding_with_a_remedy(data: bytes, code: str) -> None:
    with pytest.raises(AudioError) as caught:
        transcode(data)
    assert caught.value.code == code
    (finding,) = transcode_job({"audio": memoryview(data)}, {}).value["findings"]
    assert finding["severity"] == "error"
    assert finding["remedy"]


def test_numbers_that_are_none_are_refused() -> None:
    target = io.BytesIO()
    wave = np.zeros(44100, np.float32)
    wave[7] = np.nan
    soundfile.write(target, wave, 44100, format="WAV", subtype="FLOAT")
    with pytest.raises(AudioError, match="no numbers"):
        transcode(target.getvalue())


def test_memory_does_not_grow_with_the_sound(sandbox: Sandbox, tmp_path: Path, tell) -> None:
    peaks = []
    for seconds in (5, 120):
        path = tmp_path / f"{seconds}.wav"
        path.write_bytes(sound(seconds, channels=2))
        outcome = sandbox.run(Job(JOB, {"audio": path})).unwrap()
        peaks.append(outcome.peak_bytes - path.stat().st_size)  # the source is mapped, and counts where it is touched
    tell(f"peak without the source: 5 s {peaks[0] >> 20} MB, 120 s {peaks[1] >> 20} MB")
    assert peaks[1] - peaks[0] < 40 << 20  # of which 5 MB are the result


def mutated(seed: int) -> bytes:
    """A sound with a few bytes changed, cut, doubled or exchanged."""
    random_ = random.Random(seed)
    kinds = ("WAV", "FLAC", "MP3", "OGG")
    data = bytearray(encoded(kinds[seed % 4], 0.6, channels=1 + seed % 2))
    for _ in range(random_.randint(1, 8)):
        at = random_.randrange(min(len(data), 400) if random_.random() < 0.7 else len(data))
        match random_.randrange(4):
            case 0:
                data[at] ^= 1 << random_.randrange(8)
            case 1:
                data[at : at + 4] = random_.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
            case 2:
                del data[at : at + random_.randint(1, 40)]
            case _:
                data[at:at] = data[at : at + random_.randint(1, 40)]
    return bytes(data)


def run_mutations(sandbox: Sandbox, seeds: range) -> dict[str, int]:
    jobs = [Job(JOB, {"audio": mutated(seed)}, limits=Limits(1 << 30, 20, 20.0, 1 << 30)) for seed in seeds]
    counts: dict[str, int] = {}
    for outcome in sandbox.run_all(jobs):
        # A decoder that crashes on a file is the sandbox's business; ours is that no exception escapes a job.
        assert outcome.status in {Status.OK, Status.CRASH, Status.MEMORY, Status.CPU, Status.WALL}, outcome.error
        found = outcome.value["findings"] if outcome.status is Status.OK else None
        key = "finding" if found else "encoded or kept" if found is not None else str(outcome.status)
        counts[key] = counts.get(key, 0) + 1
    return counts


def test_mutated_sounds_end_in_a_result_or_a_finding(sandbox: Sandbox, tell) -> None:
    counts = run_mutations(sandbox, range(80))
    assert counts["finding"] > 5
    tell(str(counts))


@pytest.mark.slow
def test_many_mutated_sounds(sandbox: Sandbox, tell) -> None:
    tell(str(run_mutations(sandbox, range(80, 2080))))
