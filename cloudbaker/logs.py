"""Structured logs to stderr, with the run's id on every line and secrets taken out.

    log = get_logger(__name__)
    with bound(run_id=run.run_id):
        log.info("stage finished", stage="optimize", seconds=1.2)

Records travel through the standard library's ``cloudbaker`` logger, so that a handler of somebody else's (Prefect's,
pytest's) sees them too, as ``stage finished stage=optimize seconds=1.2 run_id=…``. What the user of another tenant must
not see (`CloudBakerError.detail`) stands here and nowhere else. structlog renders; it is imported with the first line
that is really written (it costs 200 ms, and a quiet `cloudbaker bake` writes none).
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TextIO

from cloudbaker.errors import CloudBakerError

Format = Literal["console", "json"]

ROOT = "cloudbaker"
HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(
    r"passw|secret|token|authoriz|credential|cookie|signature|private|(?:api|access|signing|account).?key",
    re.IGNORECASE,
)
_SECRET_TEXT = (
    # A key in PEM, also one cut off in the middle
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    # scheme://user:password@host
    (re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # presigned URLs
    (re.compile(r"\b(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
)
# Control characters of a hostile file name must not move the cursor, or begin what looks like a line of its own.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_DEPTH = 6

_context: ContextVar[Mapping[str, Any]] = ContextVar("cloudbaker_log_context", default={})  # noqa: B039  never mutated
_handler: logging.Handler | None = None


def configure(*, format: Format | None = None, level: str | None = None, stream: TextIO | None = None) -> None:
    """Send this package's logs to `stream` (stderr). Calling it again replaces what was set; it never doubles lines.

    Unset arguments come from `settings()`: ``CLOUDBAKER_LOG_FORMAT``, ``CLOUDBAKER_LOG_LEVEL``. Other packages' loggers
    are left alone.
    """
    global _handler  # noqa: PLW0603  one per process, as the logger it belongs to
    if format is None or level is None:
        from cloudbaker.settings import settings

        format, level = format or settings().log_format, level or settings().log_level  # type: ignore[assignment]
    if level.upper() not in logging.getLevelNamesMapping():
        raise ValueError(f"unknown log level {level!r}: use debug, info, warning or error (CLOUDBAKER_LOG_LEVEL)")
    logger = logging.getLogger(ROOT)
    if _handler is not None:
        logger.removeHandler(_handler)
    _handler = logging.StreamHandler(stream or sys.stderr)
    _handler.setFormatter(_Renderer("json" if format == "json" else "console", colors=_is_terminal(_handler.stream)))
    logger.addHandler(_handler)
    logger.setLevel(level.upper())
    logger.propagate = False  # the root logger's handlers would print each line again


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Put these fields (``run_id``, ``asset`` …) on every line logged inside, in this thread or asyncio task."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def context() -> dict[str, Any]:
    """The bound fields, to be carried into another process and bound there again."""
    return dict(_context.get())


def run_id() -> str | None:
    """The correlation id that is bound here, if any."""
    return _context.get().get("run_id")


class Log:
    """A named logger whose calls take an event and fields. Costs one comparison where the level is off."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """For whoever debugs Cloud Baker itself."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happens, at the pace of stages."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something an operator should look at; the work goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
        """Something failed. `error` is written with its code, private detail, facts and traceback."""
        self._write(logging.ERROR, event, fields, error)

    def _write(self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None) -> None:
        if not self._logger.isEnabledFor(level):
            return
        if isinstance(error, CloudBakerError):
            fields = {**fields, "error": error.to_json(), "detail": error.detail}
        clean: dict[str, Any] = redact({**_context.get(), **{k: v for k, v in fields.items() if v is not None}})
        event = redact(event)
        text = " ".join([event, *(f"{key}={value}" for key, value in clean.items())])
        exc_info = (type(error), error, error.__traceback__) if error is not None else None
        # one attribute of our own: a field called "name" or "args" in `extra` would raise KeyError
        self._logger.log(level, text, exc_info=exc_info, extra={"cloudbaker": (event, clean)}, stacklevel=3)


def get_logger(name: str) -> Log:
    """The logger of a module; `name` is its ``__name__``."""
    return Log(name)


def redact(value: Any, *, _depth: int = 0) -> Any:
    """A copy of `value` for a log: values under secret-sounding names, and secrets inside texts, are ``[hidden]``.

    Texts lose control characters (``\\x1b``), bytes become their length, anything else its ``str``.
    """
    if isinstance(value, str):
        return _escape(_hide(value))
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no infinity
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if _depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {
            redact(str(key)): HIDDEN if _SECRET_NAME.search(str(key)) else redact(item, _depth=_depth + 1)
            for key, item in value.items()
        }
    if _depth < _MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item, _depth=_depth + 1) for item in value]
    return redact(str(value))


def _hide(text: str) -> str:
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class _Renderer(logging.Formatter):
    """Renders with structlog, imported at the first line."""

    def __init__(self, format: Format, *, colors: bool) -> None:
        super().__init__()
        self._format = format
        self._colors = colors
        self._structlog: Any = None

    def format(self, record: logging.LogRecord) -> str:
        event, fields = getattr(record, "cloudbaker", None) or (redact(record.getMessage()), {})
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        # ours last but never over the four above: a field of the same name gets an underscore
        line |= {f"{key}_" if key in line else key: value for key, value in fields.items()}
        if record.exc_info:
            # hidden as a whole, since a PEM key spans lines; escaped line by line, since a traceback does too
            text = _hide(self.formatException(record.exc_info))
            line["exception"] = "\n".join(map(_escape, text.split("\n")))
        return str(self._renderer()(None, record.levelname.lower(), line))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _renderer(self) -> Any:
        if self._structlog is None:
            import structlog

            if self._format == "json":
                self._structlog = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
            else:
                # plain_traceback: where rich is installed structlog's default shows the locals of every frame,
                # and the locals of a signing function are keys
                self._structlog = structlog.dev.ConsoleRenderer(
                    colors=self._colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
                )
        return self._structlog


def _is_terminal(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())
