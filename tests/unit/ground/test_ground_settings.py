from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from cloudbaker.settings import Settings, settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CLOUDBAKER_{name.upper()}", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_all_state_lies_under_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDBAKER_HOME", str(tmp_path / "home"))
    mine = settings()
    home = str(tmp_path / "home")
    assert mine.database_url == f"sqlite:///{home}/catalog/catalog.db"
    assert mine.objects_url == f"folder:{home}/objects"
    assert str(mine.published) == f"{home}/catalog/published"
    assert str(mine.keys) == f"{home}/keys"


def test_two_homes_never_meet() -> None:
    first, second = Settings(home=Path("/a")), Settings(home=Path("/b"))
    for name in ("database_url", "objects_url", "published", "keys"):
        assert str(getattr(first, name)) != str(getattr(second, name))


def test_urls_given_win_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDBAKER_CATALOG_URL", "postgresql://db/cloudbaker")
    monkeypatch.setenv("CLOUDBAKER_STORE_URL", "folder:/objects")
    assert settings().database_url == "postgresql://db/cloudbaker"
    assert settings().objects_url == "folder:/objects"


def test_defaults_are_the_documented_limits() -> None:
    assert (settings().memory_bytes, settings().wall_seconds) == (2 << 30, 300.0)
    assert (settings().log_format, settings().log_level) == ("console", "warning")
    assert settings().outer_sandbox == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMORY_BYTES", "1"),
        ("MEMORY_BYTES", "lots"),
        ("WALL_SECONDS", "0"),
        ("WALL_SECONDS", "-1"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_names_its_field(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CLOUDBAKER_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        settings()


def test_settings_are_read_once_and_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings()
    monkeypatch.setenv("CLOUDBAKER_LOG_LEVEL", "debug")
    assert settings() is before
    with pytest.raises(ValidationError, match="frozen"):
        before.log_level = "debug"


def test_every_setting_is_explained() -> None:
    source = Path(__file__).parents[3] / "cloudbaker" / "settings.py"
    text = source.read_text("utf-8")
    for name in set(Settings.model_fields) - {"log_format", "log_level"}:
        assert re.search(rf"^    {name}: .*\n    \"\"\"", text, re.MULTILINE), f"{name} has no docstring"
