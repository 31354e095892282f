"""The cheapest setting that keeps a quality."""

from __future__ import annotations

import pytest

from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.measure import channel_psnr, psnr
from cloudbaker.compute.textures.options import LEVELS, EncodeOptions, Source
from cloudbaker.compute.textures.search import QUALITIES, Goal, ladder, search, shortfall
from cloudbaker.testing.pictures import picture

SOURCE = Source(ImageHeader("image/png", 64, 64, False, 8), 20_000)


def found(name: str, form: str, goal: Goal, size: int = 64):
    drawn = picture(name, size)
    return search(drawn.pixels, EncodeOptions(format=form, slot_class=drawn.slot_class), SOURCE, goal)


@pytest.mark.parametrize("form", ["webp", "jpeg"])
@pytest.mark.parametrize("floor", [30.0, 36.0, 42.0])
def test_no_cheaper_rung_would_have_done(form, floor):
    drawn = picture("stone", 64)
    options = EncodeOptions(format=form, slot_class="color")
    best = search(drawn.pixels, options, SOURCE, Goal(min_psnr=floor))
    assert best.met
    assert best.candidate.psnr >= floor
    rungs = ladder(options, Goal(min_psnr=floor))
    every = [search(drawn.pixels, rung, SOURCE, Goal()).candidate for rung in rungs]
    assert len(best.candidate.data) == min(len(c.data) for c in every if c.psnr >= floor)
    assert len(best.tried) <= 5 < len(rungs)  # it halves


def test_block_levels_are_climbed_one_after_the_other_and_no_further_than_needed():
    every = {level: found("bumps", "ktx2-uastc", Goal(min_psnr=99)).tried for level in LEVELS}["max"]
    decibels = [tried.psnr_db for tried in every]
    assert [tried.setting for tried in every] == list(LEVELS)
    for index, level in enumerate(LEVELS):
        got = found("bumps", "ktx2-uastc", Goal(min_psnr=decibels[index]))
        assert (got.setting, len(got.tried), got.met) == (level, index + 1, True)


def test_angles_are_asked_of_normal_maps_alone():
    easy = found("bumps", "ktx2-uastc", Goal(max_angle=45))
    assert easy.met
    assert easy.setting == "fast"
    angle = easy.candidate.normal.mean
    harder = found("bumps", "ktx2-uastc", Goal(max_angle=angle * 0.99))
    assert not harder.tried[0].met
    assert harder.candidate.normal.mean < angle
    assert found("stone", "ktx2-uastc", Goal(max_angle=0.0)).met  # has no directions


def test_what_cannot_be_met_says_so_with_the_best_there_is():
    goal = Goal(min_psnr=90)
    got = found("stone", "ktx2-uastc", goal)
    assert not got.met
    assert [tried.met for tried in got.tried] == [False] * 3
    assert got.candidate.psnr == pytest.approx(max(tried.psnr_db for tried in got.tried), abs=1e-3)
    said = shortfall(got, EncodeOptions(format="ktx2-uastc"), goal)
    assert said.startswith("ktx2-uastc reaches ")
    assert said.endswith("at best (max); asked for 90 dB")


def test_webp_ends_lossless_and_so_always_arrives():
    got = found("stone", "webp", Goal(min_psnr=90))
    assert got.met
    assert got.setting == "lossless"
    assert got.candidate.psnr == float("inf")


def test_without_a_goal_there_is_one_try_with_the_options_as_they_are():
    got = found("stone", "jpeg", Goal())
    assert got.met
    assert [tried.setting for tried in got.tried] == ["JPEG, quality 85"]


def test_ladders_have_no_rungs_that_are_the_same():
    goal = Goal(min_psnr=40)
    assert len(ladder(EncodeOptions(format="jpeg", slot_class="data"), goal)) == 1
    assert len(ladder(EncodeOptions(format="jpeg"), goal, alpha=True)) == 1
    assert len(ladder(EncodeOptions(format="webp", slot_class="normal"), goal)) == 1
    assert len(ladder(EncodeOptions(format="png"), goal)) == 1
    assert len(ladder(EncodeOptions(format="webp"), goal)) == len(QUALITIES) + 1
    assert [rung.level for rung in ladder(EncodeOptions(format="astc-6x6"), goal)] == list(LEVELS)


@pytest.mark.parametrize("wrong", [{"min_psnr": 0}, {"min_psnr": -3}, {"min_psnr": float("nan")}, {"max_angle": -1}])
def test_goals_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="must be"):
        Goal(**wrong)


def test_pictures_are_the_same_each_time_and_of_their_kind():
    for name in ("stone", "sky", "leaves", "interface", "bumps", "material"):
        one, other = picture(name, 32), picture(name, 32)
        assert psnr(one.pixels, other.pixels) == float("inf")
        assert one.pixels.shape == (32, 32, 4 if name == "leaves" else 3)
        assert min(channel_psnr(one.pixels, one.pixels[::-1].copy())[:3]) < 60  # it is not plain
