from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudbaker import logs
from cloudbaker.errors import StoreError
from cloudbaker.settings import settings

PEM = "-----BEGIN PRIVATE KEY-----\nTUlHSEFnRUE=\nc2VjcmV0\n-----END PRIVATE KEY-----"
log = logs.get_logger("cloudbaker.testing.logs")
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    logger = logging.getLogger(logs.ROOT)
    if logs._handler is not None:
        logger.removeHandler(logs._handler)
        logs._handler = None
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture
def lines() -> Lines:
    stream = io.StringIO()
    logs.configure(format="json", level="info", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def console() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(format="console", level="info", stream=stream)
    return stream


def test_a_line_has_time_level_logger_event_and_fields(lines: Lines) -> None:
    log.info("stage finished", stage="optimize", seconds=1.5, nothing=None)
    log.debug("not shown")
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "cloudbaker.testing.logs",
        "event": "stage finished",
        "stage": "optimize",
        "seconds": 1.5,
    }


def test_the_run_id_is_on_every_line_inside_and_none_outside(lines: Lines) -> None:
    with logs.bound(run_id="r1"), logs.bound(asset="a"):
        log.info("inside", asset_name="x")
        assert (logs.run_id(), logs.context()) == ("r1", {"run_id": "r1", "asset": "a"})
        other: list[str | None] = []
        thread = threading.Thread(target=lambda: other.append(logs.run_id()))
        thread.start()
        thread.join()
    log.info("outside")
    assert other == [None]
    assert logs.run_id() is None
    inside, outside = lines()
    assert (inside["run_id"], inside["asset"]) == ("r1", "a")
    assert "run_id" not in outside


def test_fields_may_have_any_name(lines: Lines) -> None:
    """`name`, `args` and `msg` in the standard library's `extra` raise KeyError."""
    log.info("x", name="n", args=1, msg="m", level="q", timestamp=0, exc_info="e")
    (line,) = lines()
    assert (line["name"], line["args"], line["msg"], line["exc_info"]) == ("n", 1, "m", "e")
    assert (line["level"], line["level_"], line["timestamp_"]) == ("info", "q", 0)


def test_an_error_is_logged_with_its_private_detail(lines: Lines) -> None:
    try:
        raise StoreError("free some space", detail="/data/objects is full", path="x")
    except StoreError as error:
        log.error("publish failed", error=error, stage="publish")
    (line,) = lines()
    assert line["error"]["code"] == "CB6301"
    assert line["error"]["facts"] == {"path": "x"}
    assert line["detail"] == "/data/objects is full"
    assert "StoreError" in line["exception"]
    assert line["stage"] == "publish"


def test_other_exceptions_are_logged_with_their_traceback(lines: Lines, console: io.StringIO) -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        log.error("failed", error=error)
    assert "KeyError: 'x'" in console.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_hidden_everywhere(format: logs.Format) -> None:
    stream = io.StringIO()
    logs.configure(format=format, level="info", stream=stream)
    url = "postgresql://me:hunter2@db/x"
    log.info(
        f"connecting {url}",
        password="hunter2",
        config={"aws_secret_access_key": "hunter2", "deep": [{"api_key": "hunter2", "API-Token": "hunter2"}]},
        url="https://bucket/key?X-Amz-Signature=hunter2&X-Amz-Credential=hunter2",
        header="Authorization: Bearer hunter2hunter2",
        pem=PEM,
        cut=PEM[:50],
        raw=PEM.encode(),
        key_id="shown",
    )
    try:
        raise StoreError("see log", detail=url, dsn=url) from ValueError(f"bad key:\n{PEM}")
    except StoreError as error:
        log.error("failed", error=error)
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "c2VjcmV0" not in text
    assert "TUlHSEFnRUE" not in text
    assert "shown" in text
    assert "postgresql://me:[hidden]@db/x" in text


def test_a_hostile_name_cannot_forge_lines_or_move_the_cursor(console: io.StringIO) -> None:
    log.info("read", file="a.glb\n2026-01-01 [error] forged\x1b[2J\x9b\u2028\r")
    assert len(console.getvalue().splitlines()) == 1
    assert "\x1b" not in console.getvalue()
    assert "\\x0a2026" in console.getvalue()


def test_no_locals_of_frames_are_shown(console: io.StringIO) -> None:
    """structlog's own default shows them where rich is installed; those of a signing function are keys."""

    def sign() -> None:
        private = "never" + "shown"
        raise ValueError(len(private))

    try:
        sign()
    except ValueError as error:
        log.error("failed", error=error)
    assert "ValueError: 10" in console.getvalue()
    assert "nevershown" not in console.getvalue()


def test_values_that_are_no_json_are_written_as_text(lines: Lines) -> None:
    endless: list[Any] = []
    endless.append(endless)
    log.info("x", path=io, data=b"12345", many={1}, endless=endless, inf=float("inf"))
    (line,) = lines()
    assert (line["data"], line["many"]) == ("<5 bytes>", [1])
    assert isinstance(line["endless"], list)
    assert line["inf"] == "inf"


def test_configuring_again_replaces_and_never_doubles(console: io.StringIO) -> None:
    second = io.StringIO()
    logs.configure(format="console", level="info", stream=second)
    log.info("once")
    assert console.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_other_handlers_see_event_and_fields_as_text(caplog: pytest.LogCaptureFixture) -> None:
    """Prefect's handler, for one, shows the message only."""
    logger = logging.getLogger("cloudbaker.testing.logs")
    logger.addHandler(caplog.handler)
    try:
        with logs.bound(run_id="r1"):
            log.warning("100% slow", seconds=3, password="x")
    finally:
        logger.removeHandler(caplog.handler)
    assert "100% slow run_id=r1 seconds=3 password=[hidden]" in caplog.messages


def test_records_of_the_standard_library_are_rendered_too(lines: Lines) -> None:
    logging.getLogger("cloudbaker.other").warning("took %d s from %s", 3, "s3://a:hunter2@b")
    (line,) = lines()
    assert line["event"] == "took 3 s from s3://a:[hidden]@b"


def test_settings_choose_format_and_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDBAKER_LOG_FORMAT", "json")
    monkeypatch.setenv("CLOUDBAKER_LOG_LEVEL", "info")
    settings.cache_clear()
    try:
        stream = io.StringIO()
        logs.configure(stream=stream)
        log.info("x")
        assert json.loads(stream.getvalue())["event"] == "x"
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_an_unknown_level_names_the_variable() -> None:
    with pytest.raises(ValueError, match="CLOUDBAKER_LOG_LEVEL"):
        logs.configure(format="json", level="loud")


def test_a_quiet_process_does_not_pay_for_structlog() -> None:
    code = (
        "import sys; from cloudbaker import logs; logs.configure(format='json', level='warning');"
        "log = logs.get_logger('cloudbaker.x'); log.info('quiet');"
        "assert 'structlog' not in sys.modules; assert 'pydantic' not in sys.modules; log.warning('loud')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stderr)["event"] == "loud"
    assert done.stdout == ""
