"""The parts of previews that need no browser."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from cloudbaker.compute.previews import IDENTICAL_DB, Previewer, available, picture_difference
from cloudbaker.compute.previews.worker import read_frame, write_frame
from cloudbaker.errors import ToolMissing
from cloudbaker.settings import settings

BACKGROUND = np.full((8, 8, 3), (0xAA, 0xAE, 0xB5), dtype=np.uint8)


def test_pictures_without_a_difference() -> None:
    assert picture_difference(BACKGROUND, BACKGROUND.copy()) == (0.0, IDENTICAL_DB)


def test_difference_is_taken_over_what_either_picture_shows() -> None:
    before, after = BACKGROUND.copy(), BACKGROUND.copy()
    before[:2, :2] = 100
    after[:2, :2] = 151  # 51 of 255 is 20 %
    difference, psnr = picture_difference(before, after)
    assert difference == pytest.approx(20.0)
    assert psnr == pytest.approx(20 * np.log10(5))
    # The same model shown in the corner of a larger picture differs as much
    wide = np.tile(BACKGROUND, (4, 4, 1))
    large_before, large_after = wide.copy(), wide.copy()
    large_before[:8, :8], large_after[:8, :8] = before, after
    assert picture_difference(large_before, large_after) == (difference, psnr)


def test_a_model_that_vanished_is_a_difference() -> None:
    before = BACKGROUND.copy()
    before[4, 4] = 0
    assert picture_difference(before, BACKGROUND)[0] > 50
    assert picture_difference(BACKGROUND, before) == picture_difference(before, BACKGROUND)


def test_frames_come_back_as_they_were_sent() -> None:
    pipe = io.BytesIO()
    write_frame(pipe, {"do": "render", "size": 64}, b"model")
    write_frame(pipe, {"do": "open"})
    pipe.seek(0)
    assert read_frame(pipe) == ({"do": "render", "size": 64}, b"model")
    assert read_frame(pipe) == ({"do": "open"}, b"")
    assert read_frame(pipe) is None


@pytest.mark.parametrize("cut", [1, 7, 8, 12, -1])
def test_a_frame_that_is_cut_short_is_an_end(cut: int) -> None:
    pipe = io.BytesIO()
    write_frame(pipe, {"do": "render"}, b"model")
    assert read_frame(io.BytesIO(pipe.getvalue()[:cut])) is None


def test_without_a_browser_the_reason_names_the_remedy(tmp_path: Path) -> None:
    missing = str(tmp_path / "chromium")
    reason = available(missing)
    assert reason is not None
    assert missing in reason
    assert "CLOUDBAKER_CHROMIUM" in reason
    with pytest.raises(ToolMissing, match="no browser at"):
        Previewer(chromium=missing)


def test_without_three_the_reason_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = tmp_path / "chromium"
    browser.write_text("")
    browser.chmod(0o755)
    monkeypatch.setenv("CLOUDBAKER_NPM_PREFIX", str(tmp_path))
    settings.cache_clear()
    reason = available(str(browser))
    assert reason is not None
    assert "cloudbaker setup" in reason or "install" in reason
