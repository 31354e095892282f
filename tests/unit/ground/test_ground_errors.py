from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest

from cloudbaker import errors
from cloudbaker.errors import CloudBakerError

PAGES = Path(__file__).parents[3] / "docs" / "errors"


def tree(cls: type[CloudBakerError] = CloudBakerError) -> list[type[CloudBakerError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in tree(child))]


ALL = [cls for cls in tree() if cls.__module__ == errors.__name__]


def test_codes_are_unique_and_well_formed() -> None:
    codes = [cls.code for cls in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"CB\d{4}", code) for code in codes)


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn = dict(re.findall(r"([A-Z]\w+)\s+(CB\d(?:\d{3}|xxx))", errors.__doc__ or ""))
    for cls in ALL:
        if cls is CloudBakerError:
            continue
        assert cls.__name__ in drawn, f"{cls.__name__} is missing from the drawing"
        assert re.fullmatch(drawn[cls.__name__].replace("xxx", r"\d{3}"), cls.code), cls.__name__


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_errors_survive_pickling_and_copying(cls: type[CloudBakerError]) -> None:
    """They come out of Ray and of sandboxed processes; those that are an OSError too have their own way of pickling."""
    error = cls("what to do", detail="private", limit=3, path="a")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is cls
        assert (again.message, again.detail, again.facts) == ("what to do", "private", {"limit": 3, "path": "a"})
        assert str(again) == f"{cls.code}: what to do"


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_json_never_holds_the_private_detail(cls: type[CloudBakerError]) -> None:
    shown = cls("what to do", detail="/secret/path", limit=3).to_json()
    assert shown == {
        "code": cls.code,
        "message": "what to do",
        "retryable": cls.retryable,
        "page": f"docs/errors/{cls.code}.md",
        "facts": {"limit": 3},
    }
    assert "secret" not in json.dumps(shown) + str(cls("what to do", detail="/secret/path"))
    assert "facts" not in cls("x").to_json()


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_code_has_a_page_that_says_what_to_do(cls: type[CloudBakerError]) -> None:
    text = (PAGES / f"{cls.code}.md").read_text("utf-8")
    assert text.startswith(f"# {cls.code} · {cls.__name__}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What happened", "Why", "What to do", "Example"]
    assert f"Exit code {cls.exit_code}" in text
    assert ("It may work if tried again" in text) is cls.retryable


def test_no_page_without_a_code_and_all_in_the_index() -> None:
    codes = {cls.code for cls in ALL}
    assert {page.stem for page in PAGES.glob("CB*.md")} == codes
    index = (PAGES / "README.md").read_text("utf-8")
    assert set(re.findall(r"\((CB\d{4})\.md\)", index)) == codes


def test_exit_codes_are_the_documented_ones() -> None:
    assert {cls.exit_code for cls in ALL} == {1, 2, 3, 4, 5, 130}
    for cls in ALL:
        for parent in cls.__mro__[1:]:
            if parent in (errors.UsageError, errors.LimitExceeded):
                assert cls.exit_code == parent.exit_code


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.NameRefused, ValueError),
        (errors.RecipeError, ValueError),
        (errors.SourceUnreadable, OSError),
        (errors.NotFound, LookupError),
        (errors.StoreError, OSError),
    ],
)
def test_errors_derive_from_the_builtin_they_refine(cls: type[CloudBakerError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match="what to do"):
        raise cls("what to do")
