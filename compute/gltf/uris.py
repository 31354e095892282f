"""URIs in a model from strangers: a file beside it, data within it, or refused.

Two known converters read ``../../etc/passwd`` and hand it out in the result (notes of 2026: both leading ones).
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from urllib.parse import unquote_to_bytes

from cloudbaker.compute.gltf.findings import quote

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DATA = re.compile(r"data:(?P<mime>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_MAX_PATH = 1024
_MAX_PART = 255


class UriRefused(ValueError):
    """A URI that is not followed. `code` is a finding's code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_data(uri: str) -> bool:
    """Whether it holds its bytes itself."""
    return uri[:5].lower() == "data:"


def relative_path(uri: str) -> str:
    """The path of a file beside the model, percent-decoded once and without ``.`` parts. Raises `UriRefused`.

    Refused: every scheme (``http:``, ``file:``, ``C:``), ``//host``, absolute paths, ``..`` in whatever encoding,
    backslashes, control characters, names no file system takes.
    """
    if _SCHEME.match(uri) or uri.startswith("//"):
        raise UriRefused("gltf.uri-external", f"the URI {quote(uri)} leads outside the model")
    try:
        path = unicodedata.normalize("NFC", unquote_to_bytes(uri).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UriRefused("gltf.uri-invalid", f"the URI {quote(uri)} is not UTF-8 when decoded") from error
    if path.startswith("/") or _SCHEME.match(path):
        raise UriRefused("gltf.uri-traversal", f"the URI {quote(uri)} is an absolute path")
    return safe_path(path, "URI")


def safe_path(path: str, what: str) -> str:
    """A relative path with ``/`` between its parts, cleaned of ``.`` and empty parts. Raises `UriRefused`."""
    if "\\" in path or any(unicodedata.category(c) == "Cc" for c in path):
        raise UriRefused("gltf.uri-traversal", f"the {what} {quote(path)} holds a backslash or control character")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UriRefused("gltf.uri-traversal", f"the {what} {quote(path)} leaves the model's folder")
    if not parts or len(path.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_PART for part in parts):
        raise UriRefused("gltf.uri-invalid", f"the {what} {quote(path)} names no file")
    return "/".join(parts)


def decode_data(uri: str) -> bytes:
    """The bytes of a ``data:`` URI (RFC 2397), base64 or percent-encoded. Raises `UriRefused`.

    They are never more than the URI's own length, which the limit on JSON bounds.
    """
    head = _DATA.match(uri[:1024])
    if head is None:
        raise UriRefused("gltf.uri-invalid", f"the data: URI {quote(uri, 40)} has no comma")
    body = uri[head.end() :]
    if not head["parameters"].lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body) if "%" in body else body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UriRefused("gltf.uri-invalid", f"the data: URI {quote(uri, 40)} is no base64: {error}") from error
