from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudbaker.errors import NameRefused, RecipeError
from cloudbaker.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from cloudbaker.settings import settings

MINIMAL = 'name = "mine"\ntarget = "web"\n'


@pytest.fixture
def own_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CLOUDBAKER_RECIPES", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_loads_under_its_own_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert len(recipe.hash) == 64


def test_web_is_what_the_web_wants() -> None:
    recipe = load_recipe("web")
    assert [lod.variant for lod in recipe.lods] == ["lod1", "lod2"]
    assert (recipe.textures.format, recipe.meshes.compression) == ("ktx2", "auto")
    small = load_recipe("web-small")
    assert small.textures.format == "webp"
    assert (small.meshes, small.lods, small.textures.max_size) == (recipe.meshes, recipe.lods, recipe.textures.max_size)
    assert recipe.limits.source_bytes == 500 << 20


def test_the_hash_is_over_what_changes_the_bytes() -> None:
    base = parse_recipe(MINIMAL)
    same = [
        'description = "other"\n',
        "[previews]\nsize = 256\n",
        "[textures]\nquality = 85\n",
        "[limits]\ntriangles = 5\n",
    ]
    other = ["[textures]\nquality = 84\n", "[meshes]\nposition_bits = 12\n"]
    assert {parse_recipe(MINIMAL + text).hash for text in same} == {base.hash}
    assert base.hash not in {parse_recipe(MINIMAL + text).hash for text in other}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "name"),
        ('name = "mine"\n', "target"),
        (MINIMAL + "colour = 1\n", "colour"),
        (MINIMAL + "[textures]\nqality = 3\n", "textures.qality"),
        (MINIMAL + "[textures]\nquality = 101\n", "textures.quality"),
        (MINIMAL + '[textures.slots]\nnormal = "avif"\n', "textures.slots.normal"),
        (MINIMAL + "[textures]\nbudget = 1.5\n", "textures.budget"),
        (MINIMAL + '[meshes]\ncompression = "zip"\n', "meshes.compression"),
        (MINIMAL + '[[lods]]\nvariant = "low"\nratio = 0.5\nmax_error_percent = 1.0\n', "lods.0.variant"),
        (MINIMAL + '[[lods]]\nvariant = "lod1"\nratio = 1.0\nmax_error_percent = 1.0\n', "lods.0.ratio"),
        ('name = "mine"\ntarget = "toaster"\n', "target"),
        (MINIMAL + "[limits]\nmemory_bytes = 1\n", "limits.memory_bytes"),
        ("name = \n", "no valid TOML"),
        (MINIMAL + MINIMAL, "no valid TOML"),
    ],
)
def test_a_wrong_recipe_names_its_first_wrong_field(text: str, place: str) -> None:
    with pytest.raises(RecipeError, match=place) as caught:
        parse_recipe(text, origin="mine.toml")
    assert "mine.toml" in caught.value.message


def test_a_recipe_name_is_a_name() -> None:
    with pytest.raises(NameRefused):
        parse_recipe('name = "../x"\ntarget = "web"\n')


def test_own_recipes_come_first_and_are_listed(own_recipes: Path) -> None:
    (own_recipes / "mine.toml").write_text(MINIMAL)
    (own_recipes / "web.toml").write_text('name = "web"\ntarget = "web"\ndescription = "ours"\n')
    assert load_recipe("mine") == parse_recipe(MINIMAL)
    assert load_recipe("web").description == "ours"
    assert {"mine", "web"} <= set(recipe_names())


def test_a_recipe_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(MINIMAL)
    assert isinstance(load_recipe(str(tmp_path / "a.toml")), Recipe)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    for name in ("nowhere.toml", "latin.toml"):
        with pytest.raises(RecipeError, match="can't read recipe"):
            load_recipe(str(tmp_path / name))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="web"):
        load_recipe("wbe")
    for name in ("../web", "/etc/passwd", "WEB", ""):
        with pytest.raises(NameRefused):
            load_recipe(name)
