"""ETC1S by the program of its makers: what comes back, what is mended, and what happens where there is none."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.job import Job, Limits, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures import etc1s, programs
from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.ktx2 import read_ktx2
from cloudbaker.compute.textures.ktx2_uastc import transcoded
from cloudbaker.compute.textures.measure import psnr
from cloudbaker.compute.textures.options import EncodeOptions, Source
from cloudbaker.errors import SandboxJobError, SandboxLimit
from cloudbaker.settings import adopt
from cloudbaker.testing import shapes

SOURCE = Source(ImageHeader("image/png", 1, 1, True, 8), 1)
ENCODE = "cloudbaker.compute.textures.encode:encode_job"
CONVERT = "cloudbaker.compute.textures.convert:convert_job"

installed = pytest.mark.skipif(not etc1s.available(), reason="basisu is not installed: cloudbaker setup")


def picture(width: int = 64, height: int = 40, *, alpha: bool = False) -> np.ndarray:
    noise = shapes.noise(64, seed=4)[:height, :width, None]
    tint = np.array([1.0, 0.8, 0.5, 0.9])[: 4 if alpha else 3]
    return np.clip(noise * tint * 255, 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def job(params: dict, pixels: np.ndarray | None = None, function: str = ENCODE) -> Job:
    return Job(function, {"image": png(picture() if pixels is None else pixels)}, params)


@installed
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("slot_class", ["color", "data", "normal"])
def test_texture_is_sound_small_and_what_it_was(sandbox: Sandbox, alpha: bool, slot_class: str) -> None:
    pixels = picture(alpha=alpha)
    outcome = etc1s.run(sandbox, job({"format": "ktx2-etc1s", "slot_class": slot_class}, pixels)).unwrap()
    assert outcome.value["findings"] == []
    file = read_ktx2(outcome.files["image"])
    assert (file.codec.name, file.width, file.height, len(file.levels)) == ("etc1s", 64, 40, 7)
    assert (file.srgb, file.alpha, file.primaries) == (slot_class == "color", alpha, int(slot_class == "color"))
    seen = transcoded(outcome.files["image"])
    assert psnr(pixels, seen[..., : pixels.shape[2]]) > 27
    if slot_class == "color":
        assert outcome.value["psnr_db"] == pytest.approx(psnr(pixels, seen[..., : pixels.shape[2]]), abs=0.01)


@installed
def test_descriptor_is_the_one_that_the_specification_asks_for() -> None:
    for options in (EncodeOptions(), EncodeOptions(slot_class="data")):
        for alpha in (False, True):
            raw = etc1s.run_basisu(png(picture(alpha=alpha)), options, Limits())
            fixed = etc1s.mended(raw)
            (at,) = struct.unpack_from("<I", fixed, 48)
            assert fixed[at + 20 : at + 22] == bytes((8, 8 if alpha else 0))
            assert fixed[at + 13] == (1 if options.is_srgb else 0)
            assert raw[at + 20] == 0  # which is why
            assert fixed[:at] == raw[:at]
            assert fixed[at + 22 :] == raw[at + 22 :]


@installed
def test_its_version_is_in_the_bake_key_of_who_asks_for_it() -> None:
    assert programs.versions({"ktx2-etc1s", None}) == {"basisu": "1.16.3"}
    assert programs.versions({"ktx2", None}) == {}


@installed
def test_same_bytes_again_and_less_for_less_quality() -> None:
    data = png(picture())
    files = {q: etc1s.run_basisu(data, EncodeOptions(quality=q), Limits()) for q in (10, 90)}
    assert etc1s.run_basisu(data, EncodeOptions(quality=90), Limits()) == files[90]
    assert len(files[10]) < len(files[90])


@installed
def test_a_search_goes_out_for_each_setting(sandbox: Sandbox) -> None:
    params = {"options": {"format": "ktx2-etc1s"}, "goal": {"min_psnr": 31}}
    outcome = etc1s.run(sandbox, job(params, function=CONVERT)).unwrap()
    assert outcome.value["psnr_db"] >= 31
    assert len(outcome.value["tried"]) > 1


@installed
def test_jobs_of_all_kinds_keep_their_order(sandbox: Sandbox) -> None:
    formats = ["webp", "ktx2-etc1s", "png", "ktx2-etc1s"]
    jobs = [job({"format": name, "max_size": 8 * (n + 1)}) for n, name in enumerate(formats)]
    outcomes = programs.run_all(sandbox, jobs)
    assert [o.value["mime"] for o in outcomes] == ["image/webp", "image/ktx2", "image/png", "image/ktx2"]
    assert [o.value["width"] for o in outcomes] == [8, 16, 24, 32]


def test_without_the_program_it_is_uastc_with_a_finding(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLOUDBAKER_NPM_PREFIX", str(tmp_path))
    adopt(None)
    assert not etc1s.available()
    assert programs.versions({"ktx2-etc1s", None}) == {"basisu": "none"}
    for asked in (job({"format": "ktx2-etc1s"}), job({"options": {"format": "ktx2-etc1s"}}, function=CONVERT)):
        outcome = etc1s.run(sandbox, asked).unwrap()
        assert [f["code"] for f in outcome.value["findings"]] == ["texture.etc1s-missing"]
        assert read_ktx2(outcome.files["image"]).codec.name == "uastc"


def test_a_damaged_image_never_gets_to_the_program(sandbox: Sandbox) -> None:
    damaged = replace(job({"format": "ktx2-etc1s"}), inputs={"image": png(picture())[:900]})
    outcome = etc1s.run(sandbox, damaged).unwrap()
    assert outcome.value["findings"][0]["code"] == "image.damaged"


@installed
def test_the_programs_failures_are_typed() -> None:
    with pytest.raises(SandboxJobError, match="could not encode"):
        etc1s.run_basisu(b"no picture", EncodeOptions(), Limits())
    with pytest.raises(SandboxLimit, match="wall limit"):
        etc1s.run_basisu(png(shapes_of(700)), EncodeOptions(level="max"), Limits(wall_seconds=0.3))


def shapes_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)


@pytest.mark.parametrize(
    "said",
    [None, {}, {"quality": "x", "level": "fast"}, {"quality": 85, "level": "-q"}, {"quality": 85, "nonsense": 1}, [1]],
)
def test_what_a_job_asks_for_is_not_believed(said: object) -> None:
    with pytest.raises(SandboxJobError, match="does not add up"):
        etc1s._wanted(said, {"etc1s-85-default": b""})


def test_inside_a_job_alone_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="outside of jobs"):
        etc1s.encode_ktx2_etc1s(picture(), EncodeOptions(format="ktx2-etc1s"), SOURCE)


@pytest.mark.parametrize(("quality", "expected"), [(1, 3), (50, 128), (100, 255)])
def test_quality_has_one_scale(quality: int, expected: int) -> None:
    assert etc1s.etc1s_quality(quality) == expected


def test_status_of_a_broken_leg_is_passed_on(sandbox: Sandbox) -> None:
    asked = replace(job({"format": "ktx2-etc1s", "max_size": 0}))
    assert etc1s.run(sandbox, asked).status is Status.ERROR
