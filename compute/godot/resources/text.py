"""Read text resources (``.tres``, ``.tscn``) and configuration files (``.import``, ``.remap``, ``project.godot``).

This is the engine's own grammar (``core/variant/variant_parser.cpp``), not an approximation: what it reads as a script
has to be a script here too. A search for the word is no use, since the engine takes ``type="GD\\u0053cript"``,
``scr ipt = …`` and ``bar"script" = …`` for what they are meant to be. In short:

- the stream is bytes; white space is everything up to 0x20; ``;`` begins a comment, also in the middle of a key;
- keys lose white space up to ``=``, and a quoted part *replaces* what was read of the key before it;
- strings hold raw line feeds, the escapes ``b t n f r uXXXX`` (Godot 4 also ``UXXXXXX``) and any other character behind
  a backslash as itself; escapes are resolved first, and the outcome is then decoded as UTF-8;
- ``ExtResource("…")`` means an id, but a *path* in configuration files and in the first two tags of a resource.

Where Godot 3 and 4 read a text in different ways, or one of them in a way that nobody can have meant (a key without
a name makes a node twice), the finding is ``text.ambiguous``. No engine writes such files.

One compiled expression makes the tokens and the stack is a list, so time is linear and depth bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.godot.findings import Reporter
from cloudbaker.compute.godot.resources.scene import read_bundles
from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Connection,
    Construct,
    DictValue,
    ExtRef,
    ExtResource,
    Lines,
    Node,
    NodePath,
    Numbers,
    ObjectValue,
    Property,
    Resource,
    ResourceError,
    ResourceRef,
    Section,
    StringName,
    SubRef,
    SubResource,
    Value,
)
from cloudbaker.model import Finding


@dataclass(frozen=True, slots=True)
class TextLimits:
    """What a text may hold before it is refused."""

    bytes: int = 64 << 20
    values: int = 2_000_000
    depth: int = 100
    """The engine's writer stops at 100, its reader at the end of the stack."""
    name_bytes: int = 1024
    """Of a key or an identifier."""
    number_bytes: int = 400


_SPACE = r"[\x01-\x20]*+"
_SKIP = rf"{_SPACE}(?:;[^\n]*+\n?+{_SPACE})*+"
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NUMBER = r"-?[0-9]++(?:\.[0-9]*+)?+(?:[eE][+-]?+[0-9]*+)?+"
_TOKEN = re.compile(
    rf"{_SKIP}(?:(?P<string>[&@^]?+{_STRING})|(?P<number>{_NUMBER})|(?P<name>-?+[A-Za-z_][A-Za-z0-9_]*+)"
    r"|(?P<color>\#[0-9A-Fa-f]*+)|(?P<mark>[\[\]{}(),:.=])|(?P<end>\Z))",
    re.DOTALL,
)
_PLAIN_KEY = re.compile(rf'{_SKIP}([^\x00-\x20\x7f-\xff=;"\[][^\x00-\x20\x7f-\xff=;"]*+){_SPACE}=')
_KEY_PIECE = re.compile(
    rf'(?P<skip>[\x01-\x20]++|;[^\n]*+\n?+)|(?P<quoted>{_STRING})|(?P<mark>[=\[])|(?P<run>[^\x00-\x20";=\[]++)',
    re.DOTALL,
)
# One item of a list of numbers as the engine writes it: a mesh is a million of these and one match.
_ITEM = r"(?:-?[0-9]++(?:\.[0-9]*+)?+(?:e[+-]?+[0-9]*+)?+|inf_neg|(?:-?inf|nan)(?![A-Za-z0-9_]))"
_LIST = rf"(?:{_ITEM}{_SPACE}(?:,{_SPACE}{_ITEM}{_SPACE})*+)?+"
_NUMBERS = re.compile(rf"\({_SPACE}({_LIST})\)")
# A value without parts that has nothing special about it, in one match: nine values of ten are one of these, and token
# by token a scene is read at 2.5 MB/s instead of 6. Whatever does not match goes the long way.
_SIMPLE = re.compile(
    rf'{_SPACE}(?:"(?P<text>[^"\\]*+)"'
    r"|(?P<number>-?[0-9]++(?:\.[0-9]*+)?+(?:e[+-]?+[0-9]++)?+)(?![eE.])"
    rf'|(?P<reference>(?P<table>Ext|Sub)Resource\({_SPACE}(?:"(?P<id>[^"\\]*+)"|(?P<index>[0-9]{{1,9}})){_SPACE}\))'
    rf"|(?P<numeric>(?P<name>[A-Z][A-Za-z0-9]*+)\({_SPACE}(?P<list>{_LIST})\))"
    r"|(?P<word>true|false|null)(?![A-Za-z0-9_]))"
)
_ATTRIBUTE = re.compile(rf"{_SKIP}(-?+[A-Za-z_][A-Za-z0-9_]*+){_SKIP}=")
_NEXT = re.compile(rf"{_SKIP}([,\]}})])")
_COLON = re.compile(rf"{_SKIP}:")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{6}|.)", re.DOTALL)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}

_ARITY = {
    **{"Vector2": 2, "Vector2i": 2, "Vector3": 3, "Vector3i": 3, "Vector4": 4, "Vector4i": 4, "Rect2": 4, "Rect2i": 4},
    **{"Transform2D": 6, "Matrix32": 6, "Plane": 4, "Quaternion": 4, "Quat": 4, "AABB": 6, "Rect3": 6},
    **{"Basis": 9, "Matrix3": 9, "Transform3D": 12, "Transform": 12, "Projection": 16, "Color": 4},
}
_MAX_ATTRIBUTES = 64
"""Of one tag; engines write up to ten."""
_BYTES = {"PackedByteArray", "PoolByteArray", "ByteArray"}
_NUMERIC = {
    *("PackedInt32Array", "PackedIntArray", "PoolIntArray", "IntArray", "PackedInt64Array"),
    *("PackedFloat32Array", "PackedRealArray", "PoolRealArray", "FloatArray", "PackedFloat64Array"),
    *("PackedVector2Array", "PoolVector2Array", "Vector2Array", "PackedVector3Array", "PoolVector3Array"),
    *("Vector3Array", "PackedVector4Array", "PoolVector4Array", "Vector4Array"),
    *("PackedColorArray", "PoolColorArray", "ColorArray"),
}
_STRINGS = {"PackedStringArray", "PoolStringArray", "StringArray"}
_REFERENCES = {"Resource", "SubResource", "ExtResource"}
_CONSTANTS: dict[str, Value] = {
    **{"true": True, "false": False, "null": None, "nil": None},
    **{"inf": float("inf"), "inf_neg": float("-inf"), "-inf": float("-inf"), "nan": float("nan")},
}


def parse_text(
    data: bytes | bytearray | memoryview,
    *,
    engine: int | None = None,
    limits: TextLimits | None = None,
    findings: list[Finding] | None = None,
) -> Resource:
    """Read a ``.tres`` or ``.tscn``. `engine` is 3 or 4; None means that each has to read the same.

    Raises `ResourceError`; with a list for `findings`, all that is wrong is appended there (and to the result), and the
    result holds what could be read until then.
    """
    reader = _Reader(data, engine, limits or TextLimits(), findings)
    resource = reader.resource
    try:
        reader.check()
        reader.read_resource()
        if reader.bundles:
            read_bundles(resource, reader.report_at)
    except ResourceError as error:
        reader.fail(error)
    return resource


def parse_config(
    data: bytes | bytearray | memoryview,
    *,
    engine: int | None = None,
    limits: TextLimits | None = None,
    findings: list[Finding] | None = None,
) -> Resource:
    """Read a configuration file into `Resource.sections`; else as `parse_text`."""
    reader = _Reader(data, engine, limits or TextLimits(), findings)
    reader.resource.kind = "config"
    try:
        reader.check()
        reader.read_config()
    except ResourceError as error:
        reader.fail(error)
    return reader.resource


@dataclass(slots=True)
class _Open:
    """A container whose end has not been read."""

    close: str
    """What ends it: ``]``, ``}`` or ``)``."""
    place: int
    parts: list[Any] = field(default_factory=list)
    """Values, pairs of them, or properties."""
    name: str = ""
    """Of an object's class."""
    types: tuple[Value, ...] = ()
    """Of ``Array[T](`` and ``Dictionary[K, V](``; then a ``)`` follows the end."""
    key: Value = None
    has_key: bool = False
    key_place: int = 0

    def finished(self) -> Value:
        if self.close == "]":
            return ArrayValue(self.parts, self.place, *self.types)
        if self.close == "}":
            return DictValue(self.parts, self.place, *self.types)
        return ObjectValue(self.name, self.parts, self.place)


class _Miss(Enum):
    """No value: None is one."""

    MISS = 0


class _Reader:
    """Tokens, values, keys and tags of one text. Bytes are characters here (Latin-1): the engine does the same."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        engine: int | None,
        limits: TextLimits,
        findings: list[Finding] | None,
    ) -> None:
        self.limits = limits
        self.engine = engine
        self.size = len(data)
        # Nothing is decoded that is too long to be read.
        self.text = str(memoryview(data)[: limits.bytes + 1], "latin-1")
        self.at = 0
        self.values = 0
        self.tags = 0
        self.config = False
        self.unfinished: list[Property] = []
        """Attributes of a tag that has not ended."""
        self.open: list[_Open] = []
        """Containers of the value that is being read, from the outside in."""
        self.bundles = False
        """Whether a property ``_bundled`` was read."""
        self.report = Reporter(ResourceError, findings)
        self.resource = Resource("text", "", findings=findings if findings is not None else [])
        self.resource.lines = Lines(self.text)

    def report_at(self, code: str, message: str, place: int) -> None:
        """Report something about a place in the text."""
        if not self.report.full(code):
            self.report(code, message, self.resource.where(place))

    def fail(self, error: ResourceError) -> None:
        """End reading with an error: raised, or the last of the findings."""
        if not self.report.collecting:
            raise error
        self.report(error.code, error.message, error.place, remedy=error.remedy)
        # The engine has made these by now, whatever it thinks of the rest: an object's script has run.
        self.resource.header += self.unfinished
        for part in self.open:
            self.resource.header += (Property("", value, part.place) for value in (part.finished(), part.key))

    def error(self, code: str, message: str, place: int) -> ResourceError:
        """An error after which nothing more can be read."""
        return ResourceError(code, message, place=self.resource.where(place))

    def check(self) -> None:
        """What can be said before the first token."""
        if self.size > self.limits.bytes:
            raise self.error("text.too-large", f"it has {self.size:,} bytes, the limit is {self.limits.bytes:,}", 0)
        if (nul := self.text.find("\0")) >= 0:
            # The engine takes a NUL for the end in one place and for white space in another.
            self.report_at("text.encoding", "there is a NUL in the text", nul)
            self.text = self.text.replace("\0", " ")

    # --- tokens

    def token(self) -> tuple[str, str, int]:
        """Kind, text and place of the next token; the kind at the end is ``end``."""
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            raise self.bad_token()
        kind = match.lastgroup or ""
        self.at = match.end()
        return kind, match[kind], match.start(kind)

    def bad_token(self) -> ResourceError:
        """Why there is no token where one should be."""
        match = re.compile(_SKIP).match(self.text, self.at)
        at = match.end() if match else self.at
        if self.text[at : at + 1] == '"' or self.text[at : at + 2] in ('&"', '@"', '^"'):
            return self.error("text.syntax", "a string has no end", at)
        return self.error("text.syntax", f"{quote(self.text[at : at + 1])} can't stand here", at)

    def expect(self, wanted: str, after: str) -> int:
        """The next token has to be this mark; its place."""
        kind, token, at = self.token()
        if token != wanted or kind != "mark":
            raise self.unexpected(token, at, f"{wanted!r} after {after}")
        return at

    def unexpected(self, token: str, at: int, wanted: str) -> ResourceError:
        """A token that is not what the grammar has there."""
        found = quote(token, 40) if token else "the end of the file"
        return self.error("text.syntax", f"expected {wanted}, found {found}", at)

    def string(self, token: str, at: int) -> str:
        """The text of a string token, by its prefix of its own kind."""
        start = token.index('"') + 1
        body = token[start:-1]
        if "\\" in body:
            body = _ESCAPE.sub(lambda match: self.escape(match, at), body)
        if not body.isascii():
            try:
                body = body.encode("latin-1").decode("utf-8")
            except UnicodeDecodeError:
                self.report_at("text.encoding", "a string is not UTF-8", at)
        prefix = token[0]
        if prefix == '"':
            return body
        if prefix == "^":
            self.report_at("text.ambiguous", '^"…" is a node path in scripts, and an error in resources', at)
            return NodePath(body)
        return StringName(body)

    def escape(self, match: re.Match[str], at: int) -> str:
        """The character that an escape stands for."""
        what = match[1]
        if what[0] == "u":
            if len(what) == 1:
                raise self.error("text.syntax", "\\u needs four hexadecimal digits", at)
            code = int(what[1:], 16)
            if not 0 < code < 0x80:
                # Escapes are resolved before UTF-8 is: Godot 3 keeps the low byte (\u0153 is an S), Godot 4 makes
                # a blank of it, and \u0000 ends the string in some places.
                self.report_at("text.ambiguous", f"\\{what} is read in different ways: write the character itself", at)
                return chr(code & 0xFF)
            return chr(code)
        if what[0] == "U":
            self.report_at("text.ambiguous", "\\U is an escape for Godot 4 and a letter for Godot 3", at)
            if len(what) > 1 and self.engine != 3:
                return chr(int(what[1:], 16) & 0xFF)
        return _ESCAPES.get(what, what)

    def number(self, token: str, at: int) -> int | float:
        """The value of a number token."""
        if len(token) > self.limits.number_bytes:
            raise self.error("text.too-large", f"a number has {len(token):,} digits", at)
        if "E" in token:
            self.report_at("text.ambiguous", "Godot 3 ends a number before E: write e", at)
        if not any(c in token for c in ".eE"):
            return int(token)
        # The engine reads `1e` and `1.` without complaint.
        return float(re.sub(r"[eE][+-]?$", "", token))

    # --- values

    def value(self) -> Value:
        """One value with everything in it."""
        whole = self.simple()
        if whole is not _Miss.MISS:
            return whole
        stack: list[_Open] = []
        self.open = stack
        while True:
            top = stack[-1] if stack else None
            at_name = top is not None and top.close == ")" and not top.has_key
            at = self.at
            value = _Miss.MISS if at_name else self.simple()
            if value is _Miss.MISS:
                kind, token, at = self.token()
                if top is not None and kind == "mark" and token == top.close and not top.has_key:
                    value = self.finish(stack)
                else:
                    if at_name and (kind != "string" or token[0] != '"'):
                        raise self.unexpected(token, at, "a property's name as a string")
                    begun = self.begin(kind, token, at)
                    if isinstance(begun, _Open):
                        if len(stack) >= self.limits.depth:
                            raise self.error(
                                "text.too-deep", f"values are nested more than {self.limits.depth} deep", at
                            )
                        stack.append(begun)
                        continue
                    value = begun
            while True:
                if not stack:
                    return value
                top = stack[-1]
                if top.close != "]" and not top.has_key:
                    top.key, top.has_key, top.key_place = value, True, at
                    if (colon := _COLON.match(self.text, self.at)) is None:
                        self.expect(":", "a key")
                    else:
                        self.at = colon.end()
                    break
                self.add(top, value)
                mark = _NEXT.match(self.text, self.at)
                if mark is not None and mark[1] == ",":
                    self.at = mark.end()
                    break
                if mark is None or mark[1] != top.close:
                    _, token, at = self.token()
                    raise self.unexpected(token, at, f"',' or {top.close!r}")
                self.at = mark.end()
                value = self.finish(stack)

    def simple(self) -> Value | _Miss:
        """A value that `_SIMPLE` knows, or `_Miss.MISS` and nothing read."""
        match = _SIMPLE.match(self.text, self.at)
        if match is None:
            return _Miss.MISS
        kind = match.lastgroup
        value: Value
        if kind == "text":
            value = match["text"]
            if not value.isascii():
                return _Miss.MISS
        elif kind == "numeric":
            name, numbers = match["name"], match["list"]
            wanted = _ARITY.get(name)
            if "-i" in numbers or (wanted is None and name not in _NUMERIC):
                return _Miss.MISS
            if wanted is not None and numbers.count(",") + 1 != wanted:
                return _Miss.MISS
            value = Construct(name, match.start("numeric"), Numbers(numbers))
        elif kind == "number":
            number = match["number"]
            if len(number) > self.limits.number_bytes:
                return _Miss.MISS
            value = int(number) if number.lstrip("-").isdigit() else float(number)
        elif kind == "word":
            value = _CONSTANTS[match["word"]]
        else:
            # The engine has no tables yet in the first two tags, see `reference`.
            key = match["id"] if match["id"] is not None else str(int(match["index"]))
            if self.config or self.tags <= 2 or not key.isascii():
                return _Miss.MISS
            value = (ExtRef if match["table"] == "Ext" else SubRef)(key, match.start("reference"))
        self.at = match.end()
        return value

    def add(self, top: _Open, value: Value) -> None:
        """Put a finished value into the container around it."""
        self.count(top.place)
        if top.close == "]":
            top.parts.append(value)
        elif top.close == "}":
            top.parts.append((top.key, value))
        else:
            self.bundles |= top.key == "_bundled"
            top.parts.append(Property(str(top.key), value, top.key_place))
        top.key, top.has_key = None, False

    def count(self, at: int) -> None:
        """One more value."""
        self.values += 1
        if self.values > self.limits.values:
            raise self.error("text.too-large", f"there are more than {self.limits.values:,} values", at)

    def finish(self, stack: list[_Open]) -> Value:
        """The innermost container as a value, after its end."""
        if stack[-1].types:
            self.expect(")", "a typed container")
        return stack.pop().finished()

    def begin(self, kind: str, token: str, at: int) -> Value | _Open:
        """A value without parts, or the beginning of one that has some."""
        if kind == "string":
            return self.string(token, at)
        if kind == "number":
            return self.number(token, at)
        if kind == "name":
            return self.named(token, at)
        if kind == "color":
            return Construct("Color", at, args=(token,))
        if token == "[":
            return _Open("]", at)
        if token == "{":
            return _Open("}", at)
        raise self.unexpected(token, at, "a value")

    def named(self, name: str, at: int) -> Value | _Open:
        """A constant, a constructor or a reference."""
        if name in _ARITY or name in _NUMERIC:
            return self.numeric(name, at)
        if name in _CONSTANTS:
            if name == "-inf":
                self.minus_infinity(at)
            return _CONSTANTS[name]
        if name in _REFERENCES:
            self.expect("(", name)
            return self.reference(name, at)
        if name in _BYTES:
            return self.byte_array(name, at)
        if name in _STRINGS:
            return self.string_array(name, at)
        if name == "Object":
            return self.object(at)
        if name in ("Array", "Dictionary"):
            return self.typed(name, at)
        if name == "NodePath":
            self.expect("(", name)
            path = self.plain_string("a node path")
            self.expect(")", "a node path")
            return NodePath(path)
        if name in ("RID", "Signal", "Callable"):
            return self.handle(name, at)
        raise self.unexpected(name, at, "a value")

    def minus_infinity(self, at: int) -> None:
        if self.engine != 4:
            self.report_at("text.ambiguous", "Godot 3 reads -inf as 0 and a word: write inf_neg", at)

    def numeric(self, name: str, at: int) -> Construct:
        """A constructor whose arguments are numbers."""
        match = _NUMBERS.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            numbers = Numbers(match[1])
            if "-i" in match[1]:
                self.minus_infinity(at)
        else:
            numbers = self.numbers_slowly(name)
        wanted = _ARITY.get(name)
        if wanted is not None and len(numbers) != wanted:
            raise self.error("text.syntax", f"{name} takes {wanted} numbers, not {len(numbers)}", at)
        return Construct(name, at, numbers)

    def numbers_slowly(self, name: str) -> Numbers:
        """The same with comments and whatever else the engine skips between the numbers."""
        self.expect("(", name)
        found: list[str] = []
        while True:
            kind, token, at = self.token()
            if token == ")" and kind == "mark" and not found:
                break
            if kind == "name" and token in ("inf", "-inf", "inf_neg", "nan"):
                if token == "-inf":
                    self.minus_infinity(at)
            elif kind == "number":
                self.number(token, at)
            else:
                raise self.unexpected(token, at, "a number")
            self.count(at)
            found.append(token)
            kind, token, at = self.token()
            if kind == "mark" and token == ")":
                break
            if kind != "mark" or token != ",":
                raise self.unexpected(token, at, "',' or ')'")
        return Numbers(",".join(re.sub(r"(?<=[0-9.])[eE][+-]?$", "", item) for item in found))

    def byte_array(self, name: str, at: int) -> Construct:
        """Bytes as numbers or (Godot 4.3) as Base64."""
        start = self.at
        self.expect("(", name)
        kind, token, where = self.token()
        if kind == "string" and token[0] == '"':
            self.expect(")", "a string of bytes")
            return Construct(name, at, args=(self.string(token, where),))
        self.at = start
        return self.numeric(name, at)

    def string_array(self, name: str, at: int) -> Construct:
        """Strings and nothing else, with or without a comma after the last."""
        self.expect("(", name)
        found: list[Value] = []
        while True:
            kind, token, where = self.token()
            if kind == "mark" and token == ")":
                break
            if kind != "string" or token[0] != '"':
                raise self.unexpected(token, where, "a string")
            self.count(where)
            found.append(self.string(token, where))
            kind, token, where = self.token()
            if kind == "mark" and token == ")":
                break
            if kind != "mark" or token != ",":
                raise self.unexpected(token, where, "',' or ')'")
        return Construct(name, at, args=tuple(found))

    def handle(self, name: str, at: int) -> Construct:
        """``RID()``, ``RID(7)``, ``Signal()``, ``Callable()``."""
        self.expect("(", name)
        kind, token, where = self.token()
        if kind == "mark" and token == ")":
            return Construct(name, at)
        if name != "RID" or kind != "number":
            raise self.unexpected(token, where, "')'")
        self.expect(")", name)
        return Construct(name, at, args=(self.number(token, where),))

    def plain_string(self, what: str) -> str:
        """A string token without a prefix."""
        kind, token, at = self.token()
        if kind != "string" or token[0] != '"':
            raise self.unexpected(token, at, f"{what} as a string")
        return self.string(token, at)

    def reference(self, name: str, at: int) -> Value:
        """What follows ``Resource(``, ``SubResource(`` or ``ExtResource(``."""
        # The engine has no tables yet in the first two tags, and never in configuration files: it loads a path.
        by_path = name == "Resource" or self.config or self.tags <= 2
        if by_path:
            first, second = self.plain_string("a path"), ""
            kind, token, where = self.token()
            if kind == "mark" and token == ",":
                second = self.plain_string("a path")
                kind, token, where = self.token()
            if kind != "mark" or token != ")":
                raise self.unexpected(token, where, "')'")
            uids = [part for part in (first, second) if part.startswith("uid://")]
            paths = [part for part in (first, second) if part and not part.startswith("uid://")]
            if len(uids) > 1 or len(paths) > 1:
                raise self.error("text.syntax", "a reference has two paths", at)
            return ResourceRef("".join(paths), "".join(uids), at)
        kind, token, where = self.token()
        if kind == "number":
            value = self.number(token, where)
            if not isinstance(value, int):
                self.report_at("text.ambiguous", f"the id {quote(token, 40)} is no whole number", where)
            key = str(value)
        elif kind == "string" and token[0] == '"':
            key = self.string(token, where)
        else:
            raise self.unexpected(token, where, "an id")
        self.expect(")", "an id")
        return ExtRef(key, at) if name == "ExtResource" else SubRef(key, at)

    def object(self, at: int) -> _Open:
        """The beginning of ``Object(Type, …)``."""
        self.expect("(", "Object")
        kind, token, where = self.token()
        if kind != "name":
            raise self.unexpected(token, where, "the name of a class")
        # Without the comma Godot 4 never returns (`Object(ConfigFile)`).
        self.expect(",", "the class of an object")
        return _Open(")", at, name=token)

    def typed(self, name: str, at: int) -> _Open:
        """The beginning of ``Array[T](`` or ``Dictionary[K, V](`` up to and with the bracket inside."""
        self.expect("[", name)
        types = [self.element_type()]
        if name == "Dictionary":
            self.expect(",", "the type of the keys")
            types.append(self.element_type())
        self.expect("]", "a type")
        self.expect("(", "a typed container")
        opening, closing = ("[", "]") if name == "Array" else ("{", "}")
        return _Open(closing, self.expect(opening, "("), types=tuple(types))

    def element_type(self) -> Value:
        """A class's name, or a reference to a script."""
        kind, token, at = self.token()
        if kind != "name":
            raise self.unexpected(token, at, "a type")
        if token in _REFERENCES:
            start = self.at
            kind, mark, _ = self.token()
            if kind == "mark" and mark == "(":
                return self.reference(token, at)
            self.at = start
            if token != "Resource":
                raise self.unexpected(mark, start, f"'(' after {token}")
        return token

    # --- keys and tags

    def key(self) -> tuple[str, int] | None:
        """The next key and its place, after its ``=``; None where a tag begins or the text ends."""
        match = _PLAIN_KEY.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            name, at = match[1], match.start(1)
        else:
            slow = self.key_slowly()
            if slow is None:
                return None
            name, at = slow
        if len(name) > self.limits.name_bytes:
            raise self.error("text.too-large", f"a key has {len(name):,} bytes", at)
        return name, at

    def key_slowly(self) -> tuple[str, int] | None:
        """As the engine puts a key together, piece by piece."""
        pieces: list[str] = []
        begun = ended = -1
        odd = quoted = False
        while self.at < self.size:
            match = _KEY_PIECE.match(self.text, self.at)
            if match is None:
                raise self.bad_token()
            at = self.at
            kind = match.lastgroup
            if kind == "mark" and match[0] == "[" and not any(pieces):
                return None
            self.at = match.end()
            if kind == "skip":
                continue
            begun = at if begun < 0 else begun
            if match[0] != "=":
                odd = odd or (ended >= 0 and (ended != at or quoted or kind == "quoted"))
                quoted = kind == "quoted"
                ended = self.at
            if kind == "quoted":
                pieces = [self.string(match[0], at)]
            elif kind == "run" or match[0] == "[":
                if not match[0].isascii():
                    self.report_at("text.ambiguous", "a key outside quotes is not ASCII", at)
                pieces.append(match[0])
            else:
                name = "".join(pieces)
                if not name:
                    self.report_at("text.ambiguous", "there is a value without a key", at)
                if odd:
                    # All engines read it (so do we), none writes it: somebody hides a name from a search.
                    self.report_at("text.ambiguous", f"the key {quote(name, 40)} is put together from pieces", begun)
                return name, begun
        if begun >= 0:
            # The engine ignores it; nobody wrote it for nothing.
            self.report_at("text.syntax", "there is text after the last value", begun)
        return None

    def tag(self) -> tuple[str, list[Property], int] | None:
        """Name, attributes and place of the next tag; None at the end."""
        kind, token, at = self.token()
        if kind == "end":
            return None
        if token != "[" or kind != "mark":
            raise self.unexpected(token, at, "a tag")
        self.tags += 1
        self.count(at)
        kind, name, where = self.token()
        if kind != "name":
            raise self.unexpected(name, where, "the name of a tag")
        kind, token, where = self.token()
        while kind == "mark" and token in (".", ":"):
            name += token
            kind, token, where = self.token()
            if kind != "name":
                raise self.unexpected(token, where, "the name of a tag")
            name += token
            if len(name) > self.limits.name_bytes:
                raise self.error("text.too-large", "the name of a tag is too long", at)
            kind, token, where = self.token()
        attributes: list[Property] = []
        self.unfinished = attributes
        self.at = where
        while (match := _ATTRIBUTE.match(self.text, self.at)) is not None:
            key, where = match[1], match.start(1)
            if any(known.name == key for known in attributes):
                self.report_at("text.ambiguous", f"the attribute {quote(key, 40)} is there twice", where)
            if len(attributes) >= _MAX_ATTRIBUTES:
                raise self.error("text.too-large", f"a tag has more than {_MAX_ATTRIBUTES} attributes", at)
            self.count(where)
            self.at = match.end()
            attributes.append(Property(key, self.value(), where))
        self.expect("]", "the attributes of a tag")
        self.unfinished = []
        return name, attributes, at

    # --- configuration files

    def read_config(self) -> None:
        """All sections."""
        self.config = True
        section = Section("", [], 0)
        self.resource.sections.append(section)
        while True:
            key = self.key()
            if key is not None:
                self.count(key[1])
                section.properties.append(Property(key[0], self.value(), key[1]))
                continue
            if self.at >= self.size:
                return
            start = self.at
            self.count(start)
            end = self.text.find("]", start)
            if end < 0:
                raise self.error("text.syntax", "the name of a section has no end", start)
            name = self.text[start + 1 : end]
            if "\\" in name:
                self.report_at("text.ambiguous", "a backslash in a section's name", start)
            if len(name) > self.limits.name_bytes:
                raise self.error("text.too-large", f"the name of a section has {len(name):,} bytes", start)
            try:
                name = name.encode("latin-1").decode("utf-8")
            except UnicodeDecodeError:
                self.report_at("text.encoding", "the name of a section is not UTF-8", start)
            section = Section(name.strip("".join(map(chr, range(1, 33)))), [], start)
            self.resource.sections.append(section)
            self.at = end + 1

    # --- resources

    def read_resource(self) -> None:
        """All tags, in the order that the engine takes them."""
        first = self.tag()
        if first is None:
            raise self.error("text.structure", "the file is empty", 0)
        name, attributes, at = first
        resource = self.resource
        resource.header = attributes
        self.plain(attributes)
        if name == "gd_scene":
            resource.type = "PackedScene"
        elif name == "gd_resource":
            resource.type = self.text_of(attributes, "type", at, needed="gd_resource")
        else:
            raise self.error("text.structure", f"the first tag is {quote(name, 40)}, not gd_resource or gd_scene", at)
        version = _attribute(attributes, "format")
        resource.format = version if isinstance(version, int) else 0
        resource.uid = self.text_of(attributes, "uid", at)
        resource.script_class = self.text_of(attributes, "script_class", at)
        self.body(scene=name == "gd_scene")

    def body(self, *, scene: bool) -> None:
        """Everything after the first tag."""
        order = ["ext_resource", "sub_resource", "node" if scene else "resource"]
        stage = 0
        ids: dict[str, set[str]] = {"ext_resource": set(), "sub_resource": set()}
        while (tag := self.tag()) is not None:
            name, attributes, at = tag
            kind = "node" if name in ("connection", "editable") else name
            if kind not in order:
                self.unfinished = attributes
                raise self.error("text.structure", f"a tag {quote(name, 40)} can't be in this file", at)
            if order.index(kind) < stage or (name == "resource" and stage == 2):
                self.report_at("text.structure", f"the tag {name} comes too late or twice", at)
            if kind != name and not self.resource.nodes:
                self.report_at("text.structure", f"the tag {name} comes before the first node", at)
            stage = max(stage, order.index(kind))
            if name not in ("node", "connection"):
                self.resource.header += self.plain(attributes)
            if name in ids:
                key = self.text_of(attributes, "id", at, needed=name)
                if key in ids[name]:
                    self.report_at("text.ambiguous", f"the id {quote(key, 40)} is there twice", at)
                ids[name].add(key)
            self.part(name, attributes, at)
        if stage < 2:
            self.report_at("text.structure", f"there is no {order[2]}", self.size)

    def part(self, name: str, attributes: list[Property], at: int) -> None:
        """One tag with its properties, into the tree."""
        resource = self.resource
        if name == "ext_resource":
            kind, path = (self.text_of(attributes, key, at, needed=name) for key in ("type", "path"))
            key, uid = (self.text_of(attributes, key, at) for key in ("id", "uid"))
            resource.external.append(ExtResource(key, kind, path, uid, at))
        elif name == "sub_resource":
            kind = self.text_of(attributes, "type", at, needed=name)
            part = SubResource(self.text_of(attributes, "id", at), kind, [], at)
            resource.internal.append(part)
            self.properties(part.properties)
        elif name == "resource":
            self.properties(resource.properties)
        elif name == "node":
            title, kind, parent = (self.text_of(attributes, key, at) for key in ("name", "type", "parent"))
            node = Node(
                title,
                kind,
                parent,
                _attribute(attributes, "instance"),
                self.text_of(attributes, "instance_placeholder", at),
                _strings(_attribute(attributes, "groups")),
                attributes,
                [],
                at,
            )
            resource.nodes.append(node)
            self.properties(node.properties)
        elif name == "connection":
            source, target, signal, method = (
                self.text_of(attributes, key, at, needed=name) for key in ("from", "to", "signal", "method")
            )
            binds = _attribute(attributes, "binds")
            resource.connections.append(Connection(source, target, signal, method, binds, attributes, at))
        else:
            resource.editable.append(self.text_of(attributes, "path", at, needed=name))

    def properties(self, into: list[Property]) -> None:
        """All assignments up to the next tag."""
        while (key := self.key()) is not None:
            self.count(key[1])
            self.bundles |= key[0] == "_bundled"
            into.append(Property(key[0], self.value(), key[1]))

    def plain(self, attributes: list[Property]) -> list[Property]:
        """Tags other than nodes and connections have strings and numbers as attributes; what is something else."""
        odd = [attribute for attribute in attributes if type(attribute.value) not in (str, int, bool)]
        for attribute in odd:
            self.report_at(
                "text.ambiguous",
                f"the attribute {quote(attribute.name, 40)} is no plain string or number",
                attribute.place,
            )
        return odd

    def text_of(self, attributes: list[Property], name: str, at: int, *, needed: str = "") -> str:
        """An attribute as the engine makes a string of it; empty where there is none."""
        found = next((a for a in reversed(attributes) if a.name == name), None)
        if found is None:
            if needed:
                self.report_at("text.structure", f"the tag {needed} has no {name}", at)
            return ""
        value = found.value
        if isinstance(value, bool) or not isinstance(value, (str, int)) or isinstance(value, (StringName, NodePath)):
            # The engine converts whatever it finds, so that type=NodePath("GDScript") is a script too.
            self.report_at("text.ambiguous", f"the attribute {quote(name, 40)} is no plain string", found.place)
        return str(value) if isinstance(value, (str, int)) else ""


def _attribute(attributes: list[Property], name: str) -> Value:
    return next((a.value for a in reversed(attributes) if a.name == name), None)


def _strings(value: Value) -> tuple[str, ...]:
    """The strings of an array, in any of its forms."""
    items = value.items if isinstance(value, ArrayValue) else value.args if isinstance(value, Construct) else ()
    return tuple(str(item) for item in items if isinstance(item, str))
