"""Why a pack or a resource can't be read, or would be read in two ways: codes, meanings and remedies in one table.

The codes are stable. A strict reader raises the first one as a `BadContent`; given a list, it collects them all and
goes on as far as the bytes allow, because a report that names only the first fault is no help to the one who has to
repair the file.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cloudbaker.compute.gltf.findings import PER_CODE, Rule, printable
from cloudbaker.model import Finding, Severity

_EXPORT = "export the pack again with the engine"
_WRITE = "write the pack with the engine or with `cloudbaker`, without tools that hide things in it"
_RENAME = "rename the file: a plain relative path in Unicode form C, such as mods/<id>/name.png"
_UPLOAD = "the file is not complete: upload it again"
_SAVE = "open the resource in the engine's editor and save it again"
_SMALLER = "make the file smaller, or raise the limit in the policy"

RULES: dict[str, Rule] = {
    # --- packs
    "pck.bad-magic": Rule("the file does not begin with GDPC", "hand in the .pck itself, nothing that contains one"),
    "pck.appended": Rule("a pack is appended to another file, or has one appended", _WRITE),
    "pck.bad-version": Rule("the pack's format version is none of 1 to 4", "export with Godot 3.x or 4.x"),
    "pck.truncated": Rule("the pack ends inside its header or directory", _UPLOAD),
    "pck.bad-flags": Rule("the pack has flags that nobody knows", _WRITE),
    "pck.encrypted": Rule("the pack or a file in it is encrypted", "export without encryption"),
    "pck.sparse": Rule("the pack is a sparse bundle: its files are elsewhere", "export as one .pck"),
    "pck.removal": Rule("an entry deletes a file of the game (removal flag)", "export the mod whole, not as a patch"),
    "pck.delta": Rule("an entry rewrites a file of the game (delta flag)", "export the mod whole, not as a patch"),
    "pck.file-flags": Rule("an entry has flags that nobody knows", _WRITE),
    "pck.too-many-files": Rule("the pack has more files than the limit", "pack fewer files"),
    "pck.too-large": Rule("the pack is larger than the limit", _SMALLER),
    "pck.directory": Rule("the directory lies outside the pack or inside its header", _EXPORT),
    "pck.path-encoding": Rule("an entry's path is not UTF-8, or holds a NUL", _RENAME),
    "pck.path": Rule("an entry's path is not the one the engine makes of it", _RENAME),
    "pck.path-too-long": Rule("an entry's path is too long", _RENAME),
    "pck.duplicate": Rule("two paths are the same, or differ only by case or Unicode form", _RENAME),
    "pck.path-conflict": Rule("a path is a file and a folder at once", _RENAME),
    "pck.out-of-bounds": Rule("an entry's data leave the pack", _UPLOAD),
    "pck.overlap": Rule("an entry's data overlap another's, the header or the directory", _WRITE),
    "pck.hidden-bytes": Rule("bytes of the pack belong to no file", _WRITE),
    "pck.trailing-bytes": Rule("bytes follow after the end of the pack", "remove what was appended"),
    "pck.md5": Rule("a file's data do not have the MD5 of the directory", _UPLOAD),
    "pck.md5-missing": Rule("a file has no MD5 in the directory", "nothing to do", Severity.WARNING),
    # --- text resources and configuration files
    "text.encoding": Rule("the text has a NUL, or a string is not UTF-8", "save the file as UTF-8"),
    "text.syntax": Rule("the text is none that the engine reads", _SAVE),
    "text.too-deep": Rule("values are nested too deeply", "flatten the value"),
    "text.too-large": Rule("the text, or one of its names, is too long, or it holds too many values", _SMALLER),
    "text.ambiguous": Rule("engines read this in different ways, or as nobody can have meant it", _SAVE),
    "text.structure": Rule("sections are missing, doubled or out of order", _SAVE),
    # --- binary resources
    "binary.bad-magic": Rule("the file does not begin with RSRC or RSCC", _SAVE),
    "binary.bad-version": Rule("the format or engine version is unknown", "save with Godot 3.x or 4.x"),
    "binary.truncated": Rule("the resource ends too early, or a count leaves it", _UPLOAD),
    "binary.too-large": Rule("the resource, unpacked, or one of its counts passes the limit", _SMALLER),
    "binary.too-deep": Rule("values are nested too deeply", "flatten the value"),
    "binary.encoding": Rule("a string is not UTF-8, or holds a NUL", _SAVE),
    "binary.compression": Rule("a compressed block does not unpack to the size it says", _UPLOAD),
    "binary.value": Rule("a value has an unknown type, or an index points at nothing", _SAVE),
    "binary.structure": Rule("parts of the resource overlap, are missing, or belong to nothing", _SAVE),
    # --- scenes inside resources
    "scene.bundle": Rule("a packed scene's bundle contradicts itself", _SAVE),
}


class BadContent(ValueError):
    """Content that can't be read safely. `code` is one of `RULES`; message, remedy and place are for people."""

    def __init__(self, code: str, message: str, *, remedy: str = "", place: str = "") -> None:
        rule = RULES[code]
        super().__init__(f"{message} ({remedy or rule.remedy})")
        self.code = code
        self.message = message
        self.remedy = remedy or rule.remedy
        self.place = place
        self.severity = rule.severity

    def finding(self) -> Finding:
        """It as a finding."""
        return Finding(self.code, self.severity, self.place, self.message, self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.message, self.remedy, self.place)


def _rebuild(cls: type[BadContent], code: str, message: str, remedy: str, place: str) -> BadContent:
    return cls(code, message, remedy=remedy, place=place)


class Reporter:
    """Raises the first error of a check, or collects everything: at most `PER_CODE` of each code into `findings`."""

    def __init__(self, error: type[BadContent], findings: list[Finding] | None) -> None:
        self._error = error
        self._findings = findings
        self._seen: Counter[str] = Counter()

    @property
    def collecting(self) -> bool:
        """Whether findings are collected, and reading goes on after an error."""
        return self._findings is not None

    def full(self, code: str) -> bool:
        """Whether no more of this kind are kept: ten million bad escapes are not described ten million times."""
        return self._seen[code] > PER_CODE

    def __call__(self, code: str, message: str, place: str = "", *, remedy: str = "") -> None:
        """Report a finding. Raises the error it is unless findings are collected or it is a warning."""
        if self.full(code):
            return
        bad = self._error(code, printable(message), remedy=remedy, place=printable(place))
        if self._findings is None:
            if bad.severity is Severity.ERROR:
                raise bad
            return
        self._seen[code] += 1
        if self._seen[code] <= PER_CODE:
            self._findings.append(bad.finding())
        elif self._seen[code] == PER_CODE + 1:
            self._findings.append(
                Finding(code, bad.severity, "", f"there are more than {PER_CODE} of this kind", bad.remedy)
            )


def rules_table() -> str:
    """The table of all codes as Markdown, as ``docs/godot-packs.md`` has it."""
    rows = [f"| `{code}` | {rule.severity.value} | {rule.meaning} | {rule.remedy} |" for code, rule in RULES.items()]
    return "\n".join(["| code | severity | meaning | remedy |", "|---|---|---|---|", *rows])
