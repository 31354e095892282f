"""Sound as Ogg Vorbis, in constant memory, with its loop kept, its bytes fixed and its loudness measured.

Ogg Vorbis is the one compressed format that every Godot plays, and quality 7 (about 224 kbit/s, stereo) is taken for
transparent. libsndfile encodes it (``compression_level`` is 1 − q/10; within 5 bytes of ``oggenc -q7``) and decodes
WAV, FLAC, MP3 and Ogg. What it does not do is done here:

- loops: the WAV's ``smpl`` chunk becomes LOOPSTART/LOOPLENGTH comments and the importer's ``loop_offset``. Godot loops
  a Vorbis stream at its end only, so a WAV whose loop ends before stays a WAV;
- the stream's serial number, random in every encoder, is fixed: the same sound gives the same bytes;
- the result is decoded again and held against the source.

One decoder crashed on one of 600 mutated files (FLAC, SIGSEGV): this runs in the sandbox only.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.audio.ogg import rewrite
from cloudbaker.compute.gltf.archive import View
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.media import sniff
from cloudbaker.model import Finding, Severity, to_json

BLOCK = 65536
"""Frames that are read at once: memory does not grow with the sound (504 MB of WAV took 32 MB)."""
SERIAL = 1
MAX_CHANNELS = 2
"""Godot plays mono and stereo."""
MAX_RATE = 192_000
MAX_SECONDS = 3 * 3600.0
"""A small FLAC or MP3 can say that it holds years."""
FORMATS = ("wav", "flac", "mp3", "ogg")

Frames = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TranscodeOptions:
    """What the recipe wants."""

    quality: int = 7
    """0 to 10, as ``oggenc -q`` counts."""
    shortest_seconds: float = 0.5
    """Shorter WAVs stay as they are."""


class AudioError(ValueError):
    """The sound is damaged, or none that can be used. `code` is the finding's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of a WAV's ``smpl`` chunk. Frames; `end` is the first one after the loop."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sound:
    """What a sound is, and how loud."""

    kind: str
    """``wav``, ``flac``, ``mp3`` or ``ogg``."""
    rate: int
    channels: int
    frames: int
    loop: Loop | None
    rms_dbfs: float
    """Of all channels together; −inf for silence. A sine of full scale has −3.01."""
    peak_dbfs: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A sound for the engine."""

    data: bytes | None
    """Ogg Vorbis; None where the source is kept."""
    reason: str
    """Why it is kept; empty otherwise."""
    source: Sound
    snr_db: float
    """Of the decoded result against the source, over all frames; inf where the source is kept."""


def transcode_job(inputs: Inputs, params: Params) -> JobResult:
    """One sound. Input ``audio``; params as `TranscodeOptions`.

    Value: ``{"kept", "reason", "kind", "rate", "channels", "frames", "seconds", "loop", "rms_dbfs", "peak_dbfs",
    "snr_db", "findings"}``; file ``audio`` unless the source is kept or an error is found.
    """
    try:
        result = transcode(inputs["audio"], TranscodeOptions(**params))
    except AudioError as error:
        finding = Finding(error.code, Severity.ERROR, "", str(error), error.remedy)
        return JobResult({"kept": True, "findings": [to_json(finding)]})
    value: dict[str, Any] = {
        **asdict(result.source),
        "seconds": round(result.source.seconds, 4),
        "rms_dbfs": _figure(result.source.rms_dbfs),
        "peak_dbfs": _figure(result.source.peak_dbfs),
        "snr_db": _figure(result.snr_db),
        "kept": result.data is None,
        "reason": result.reason,
        "findings": [],
    }
    return JobResult(value, {} if result.data is None else {"audio": result.data})


def transcode(data: bytes | memoryview, options: TranscodeOptions | None = None) -> Transcoded:
    """A sound as Ogg Vorbis, or the reason why it stays as it is. Raises `AudioError` for what no engine could play."""
    options = options or TranscodeOptions()
    view = memoryview(data)
    source = measure(view)
    reason = _reason_to_keep(source, options)
    if reason:
        return Transcoded(None, reason, source, math.inf)
    raw, target = io.BytesIO(), io.BytesIO()
    _encode(view, source, raw, options.quality)
    raw.seek(0)
    rewrite(raw, target, serial=SERIAL, comments=_loop_comments(source))
    encoded = target.getvalue()
    if source.kind == "wav" and len(encoded) >= len(view):
        return Transcoded(None, "Ogg Vorbis would be larger", source, math.inf)
    return Transcoded(encoded, "", source, _noise(view, encoded))


def measure(data: bytes | memoryview) -> Sound:
    """Kind, size, loop and loudness of a sound, decoded whole. Raises `AudioError`."""
    kind = sniff(memoryview(data)[:64])
    if kind not in FORMATS:
        raise AudioError("audio.unknown", "this is no WAV, FLAC, MP3 or Ogg Vorbis", "hand in one of these")
    total, peak, frames = 0.0, 0.0, 0
    with _opened(data) as file:
        rate, channels, announced = file.samplerate, file.channels, file.frames
        if channels > MAX_CHANNELS:
            raise AudioError("audio.channels", f"it has {channels} channels", "mix it down to stereo")
        if not 1000 <= rate <= MAX_RATE:
            raise AudioError("audio.rate", f"it has {rate} samples a second", "resample it to 44100 or 48000")
        if announced > MAX_SECONDS * rate:
            raise AudioError("audio.too-long", f"it lasts longer than {MAX_SECONDS / 3600:g} hours", "cut it")
        for block in _blocks(file):
            if not np.isfinite(block).all():
                raise AudioError("audio.not-finite", "it holds values that are no numbers", "export the sound again")
            total += float(np.square(block, dtype=np.float64).sum())
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            frames += len(block)
            if frames > MAX_SECONDS * rate:
                raise AudioError("audio.too-long", f"it lasts longer than {MAX_SECONDS / 3600:g} hours", "cut it")
    if not frames:
        raise AudioError("audio.empty", "it has no sound in it", "remove it, or export it again")
    loop = read_loop(memoryview(data), frames) if kind == "wav" else None
    return Sound(kind, rate, channels, frames, loop, _decibels(math.sqrt(total / frames / channels)), _decibels(peak))


def read_loop(data: memoryview, frames: int) -> Loop | None:
    """The first forward loop of a WAV's ``smpl`` chunk (RIFF MCI, "Sample chunk"), if it lies inside the sound."""
    at, end = 12, len(data)
    while at + 8 <= end:
        name, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"smpl" and size >= 36 and at + 8 + size <= end:
            count = int.from_bytes(data[at + 36 : at + 40], "little")
            for number in range(min(count, (size - 36) // 24)):
                _, kind, first, last = struct.unpack_from("<4I", data, at + 44 + 24 * number)
                if kind == 0 and first <= last < frames:
                    return Loop(first, last + 1)
            return None
        at += 8 + size + size % 2
    return None


def _reason_to_keep(source: Sound, options: TranscodeOptions) -> str:
    if source.kind == "ogg":
        return "it is Ogg Vorbis already: a second encoding could only lose"
    if source.kind != "wav":
        return ""
    if source.loop is not None and source.loop.end < source.frames:
        return "its loop ends before the sound does, which only a WAV can do in Godot"
    if source.seconds < options.shortest_seconds:
        return f"it is shorter than {options.shortest_seconds:g} s"
    return ""


def _encode(data: memoryview, source: Sound, target: BinaryIO, quality: int) -> None:
    import soundfile

    with (
        _opened(data) as file,
        soundfile.SoundFile(
            target,
            "w",
            source.rate,
            source.channels,
            format="OGG",
            subtype="VORBIS",
            compression_level=1.0 - quality / 10,
        ) as out,
    ):
        for block in _blocks(file):
            out.write(block)


def _loop_comments(source: Sound) -> dict[str, str]:
    """Where it loops, as players and engines read it."""
    if source.loop is None:
        return {}
    start, end = source.loop.start, source.loop.end
    return {"LOOPSTART": str(start), "LOOPLENGTH": str(end - start), "LOOPEND": str(end)}


def _noise(data: memoryview, encoded: bytes) -> float:
    """Signal to noise of the decoded result, in dB. Raises `AudioError` where it is not as long as its source."""
    signal = noise = 0.0
    with _opened(data) as before, _opened(encoded) as after:
        for wanted in _blocks(before):
            got = after.read(len(wanted), dtype="float32", always_2d=True)
            if len(got) != len(wanted):
                raise AudioError("audio.length", "the encoded sound is shorter than its source", "report this file")
            signal += float(np.square(wanted, dtype=np.float64).sum())
            noise += float(np.square(wanted - got, dtype=np.float64).sum())
    return math.inf if noise == 0 else _decibels(math.sqrt(signal / noise))


def _opened(data: bytes | memoryview) -> Any:
    import soundfile

    try:
        return soundfile.SoundFile(_Seekable(memoryview(data)))
    except soundfile.LibsndfileError as error:
        raise AudioError(
            "audio.invalid", "it can't be decoded: its header is damaged", "export the sound again, as WAV or FLAC"
        ) from error


def _blocks(file: Any) -> Iterator[Frames]:
    import soundfile

    while True:
        try:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError("audio.invalid", "it can't be decoded to its end", "export the sound again") from error
        if not len(block):
            return
        yield cast("Frames", block)


class _Seekable(View):
    """What libsndfile reads: it wants `readinto`."""

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _decibels(ratio: float) -> float:
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf


def _figure(value: float) -> float | None:
    """For JSON: two decimals, None for what is not finite."""
    return round(value, 2) if math.isfinite(value) else None
