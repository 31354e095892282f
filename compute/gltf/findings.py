"""Every reason for which a model can be refused or remarked on: code, severity, meaning and remedy, in one table.

The codes are stable: they are in the catalog, in reports and in people's scripts. ``docs/validation.md`` is this table,
and a test keeps the two equal. What the official validator says is not listed: it appears as ``khronos.<CODE>``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloudbaker.model import Finding, Severity, to_json

PER_CODE = 100
"""Findings of one code that are kept; the rest is counted. A file with a million bad nodes has one cause."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code means and what to do about it."""

    meaning: str
    remedy: str
    severity: Severity = Severity.ERROR


_REEXPORT = "export the model again; if it comes from a converter, report the file to its makers"
_SIZE = "make the model smaller, or raise the limit in the recipe"
_UPLOAD = "upload the file again; if that does not help, export it again"

RULES: dict[str, Rule] = {
    # --- what was handed in
    "intake.empty": Rule("a source file has no bytes", "upload it again"),
    "intake.not-a-model": Rule("the bytes are those of something else", "hand in a .glb, a .gltf or a .zip of one"),
    "intake.too-large": Rule("the source files pass the size limit", _SIZE),
    "intake.missing-file": Rule("a file that the model refers to was not handed in", "hand it in beside the .gltf"),
    "intake.buffers-merged": Rule(
        "a GLB has one buffer; names or extras of the others are gone", "nothing to do", Severity.WARNING
    ),
    "intake.zip-invalid": Rule("the archive is damaged", _UPLOAD),
    "intake.zip-entries": Rule("the archive has too many entries", "pack only the model and its files"),
    "intake.zip-path": Rule(
        "an entry's path is absolute, leaves the archive or holds a backslash or control character",
        "pack again from inside the model's folder",
    ),
    "intake.zip-special": Rule("an entry is a link or a device", "pack the files themselves (zip -r follows links)"),
    "intake.zip-encrypted": Rule("an entry is encrypted", "pack without a password"),
    "intake.zip-method": Rule("an entry is packed by something else than deflate", "pack with ordinary deflate"),
    "intake.zip-bomb": Rule("the archive unpacks to far more than it holds", "pack only the model and its files"),
    "intake.zip-duplicate": Rule(
        "two entries have the same name, or names that differ only by case or Unicode form", "rename one of them"
    ),
    "intake.zip-nested": Rule("the archive holds another archive", "unpack it and pack only the model and its files"),
    "intake.zip-no-model": Rule("the archive holds no .glb and no .gltf", "pack one model and its files"),
    "intake.zip-several-models": Rule("the archive holds several models", "hand in one archive per model"),
    "intake.zip-ignored": Rule("entries that the model does not refer to are left out", "nothing to do", Severity.INFO),
    # --- the container
    "glb.empty": Rule("the file has no bytes", "upload it again"),
    "glb.bad-magic": Rule("the file is no GLB", "export the model again as binary glTF (.glb)"),
    "glb.bad-version": Rule("the container is not of version 2", "export the model again as binary glTF 2.0 (.glb)"),
    "glb.truncated": Rule("the file ends too early", "the file is not complete: upload it again"),
    "glb.length-mismatch": Rule("bytes follow after the end of the container", "remove what was appended"),
    "glb.chunk-unaligned": Rule("a chunk's length is no multiple of 4", _REEXPORT),
    "glb.bad-chunk": Rule("chunks are missing, empty, doubled or out of order", _REEXPORT),
    # --- the JSON
    "gltf.json-invalid": Rule("the JSON does not parse, or is no object", _REEXPORT),
    "gltf.json-encoding": Rule("the JSON is not UTF-8, has a byte order mark or half a surrogate pair", _REEXPORT),
    "gltf.json-too-large": Rule("the JSON is too long", "keep binary data in a .bin or .glb, not in data: URIs"),
    "gltf.json-too-deep": Rule("the JSON is nested too deeply", "remove deeply nested extras"),
    "gltf.json-duplicate-key": Rule("an object has the same key twice: readers differ in which one counts", _REEXPORT),
    "gltf.json-number": Rule("a number is NaN, infinite or beyond what a double holds", _REEXPORT),
    "gltf.version": Rule("asset.version is missing or not 2.x", "export the model as glTF 2.0"),
    "gltf.schema": Rule("a property is missing or of the wrong type, or a value is not allowed", _REEXPORT),
    "gltf.reference": Rule("an index points at nothing", _REEXPORT),
    "gltf.too-many": Rule("there are too many objects of one kind", "join meshes and nodes before the export"),
    "gltf.unsupported-extension": Rule(
        "the model needs an extension that Cloud Baker does not know", "export it without that extension"
    ),
    "gltf.undeclared-extension": Rule(
        "an extension is required but not in extensionsUsed", "add it to extensionsUsed, or export again"
    ),
    # --- URIs
    "gltf.uri-external": Rule("a URI leads to the network or the file system", "embed the data (.glb)"),
    "gltf.uri-traversal": Rule(
        "a URI is absolute or leaves the model's folder", "put the file beside the .gltf and refer to it by its name"
    ),
    "gltf.uri-invalid": Rule("a URI is malformed, or its data: part does not decode", _REEXPORT),
    "gltf.uri-in-glb": Rule("a GLB refers to a file beside it", "embed everything when exporting as .glb"),
    # --- nodes
    "gltf.node-cycle": Rule("a node is its own ancestor", _REEXPORT),
    "gltf.node-parents": Rule("a node has several parents", "duplicate the node instead of sharing it"),
    "gltf.node-too-deep": Rule("the node tree is too deep", "flatten the hierarchy"),
    "gltf.scene-root": Rule("a scene lists a node that has a parent, or lists one twice", _REEXPORT),
    "gltf.node-conflict": Rule("a node's properties exclude each other", _REEXPORT),
    # --- binary data
    "gltf.buffer-too-short": Rule("a buffer has fewer bytes than it says", _UPLOAD),
    "gltf.view-range": Rule("a buffer view leaves its buffer", _REEXPORT),
    "gltf.view-stride": Rule("a buffer view's stride is too small or does not fit its component type", _REEXPORT),
    "gltf.accessor-range": Rule("an accessor leaves its buffer view", _REEXPORT),
    "gltf.accessor-alignment": Rule("an accessor is not aligned to its component type", _REEXPORT),
    "gltf.accessor-kind": Rule("an accessor has the wrong type for what refers to it", _REEXPORT),
    "gltf.accessor-count": Rule("accessors that belong together differ in their counts", _REEXPORT),
    "gltf.sparse-invalid": Rule("a sparse accessor's indices are not ascending or leave the accessor", _REEXPORT),
    "gltf.not-finite": Rule("an accessor holds NaN or infinity", "repair the mesh or animation, and export again"),
    "gltf.index-out-of-range": Rule("an index points past the last vertex", "repair the mesh, and export again"),
    "gltf.joint-out-of-range": Rule("a vertex names a joint that its skin does not have", _REEXPORT),
    "gltf.animation-invalid": Rule("an animation's times or channels are not as they must be", _REEXPORT),
    "gltf.expands-too-far": Rule("empty, sparse or compressed data would expand beyond the limit", _SIZE),
    "gltf.overlapping-data": Rule("accessors read the same bytes over and over", _REEXPORT),
    "gltf.too-many-triangles": Rule("there are more triangles than the recipe allows", "simplify the model first"),
    # --- images
    "image.invalid": Rule("an image's header is damaged, or it is of no known type", "export the texture again"),
    "image.too-large": Rule("an image has more pixels than the recipe allows", "scale the texture down"),
    "image.mime-mismatch": Rule("an image is not of the type that is declared", "export the texture again"),
    "image.unsupported": Rule(
        "a texture's image needs an extension that is not there", "use PNG or JPEG, or declare the extension"
    ),
    "image.ktx2-invalid": Rule(
        "a KTX2 says of itself what is not so: its levels, their sizes or their place", "export the texture again"
    ),
    "image.ktx2-odd": Rule(
        "a KTX2 is of a kind that glTF does not allow, though it can be read",
        "encode the texture again, with `cloudbaker encode`",
        Severity.WARNING,
    ),
    # --- the official validator
    "khronos.failed": Rule("the official validator gave no answer", "make the model smaller, or report the file"),
    # --- compressed geometry
    "draco.corrupt": Rule("a Draco payload does not decode", _UPLOAD),
    "draco.mismatch": Rule("a Draco payload holds something else than its accessors say", _REEXPORT),
    "meshopt.corrupt": Rule("a meshopt payload does not decode", _UPLOAD),
    "meshopt.invalid": Rule("a meshopt buffer view contradicts itself", _REEXPORT),
    # --- repair, where the recipe asks for it
    "mesh.repaired": Rule("a surface was mended; the message says what changed", "nothing to do", Severity.INFO),
    "mesh.not-repaired": Rule(
        "a surface stays as it came: its repair failed, or would have moved it too far",
        "mend it in the program that it was made with",
        Severity.WARNING,
    ),
}


class Findings:
    """Collects findings of one check, at most `PER_CODE` of each code in full, and counts the others."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self.failed = False
        """Whether an error is among them."""

    def add(self, code: str, place: str, message: str, *, remedy: str = "") -> None:
        """Note a finding of the table. `place` is a JSON pointer or a file's name; `remedy` overrides the table's."""
        rule = RULES[code]
        self.append(Finding(code, rule.severity, place, message, remedy or rule.remedy))

    def append(self, finding: Finding) -> None:
        """Note a finding that is complete, such as one of the official validator."""
        self.failed = self.failed or finding.severity is Severity.ERROR
        key = (finding.code, finding.severity.value)
        self._seen[key] += 1
        if self._seen[key] <= PER_CODE:
            self._kept.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Note several."""
        for finding in findings:
            self.append(finding)

    def __iter__(self) -> Iterator[Finding]:
        yield from self._kept
        for (code, severity), count in self._seen.items():
            if count > PER_CODE:
                known = RULES.get(code)
                yield Finding(
                    code,
                    Severity(severity),
                    "",
                    f"… and {count - PER_CODE:,} more of this kind",
                    known.remedy if known else "",
                )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_json(self) -> list[dict[str, Any]]:
        """As job values hold them."""
        return [to_json(finding) for finding in self]


def from_json(values: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """Findings out of a job's value."""
    return tuple(
        Finding(v["code"], Severity(v["severity"]), v["place"], v["message"], v.get("remedy", "")) for v in values
    )


def rules_table() -> str:
    """The table of all codes as Markdown, as ``docs/validation.md`` has it."""
    rows = [f"| `{code}` | {rule.severity.value} | {rule.meaning} | {rule.remedy} |" for code, rule in RULES.items()]
    return "\n".join(["| code | severity | meaning | remedy |", "|---|---|---|---|", *rows])


def printable(text: str, length: int = 400) -> str:
    """Text from the file without control, bidirectional or invisible characters, cut: for places and messages."""
    shown = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:length])
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def pointer_key(key: object) -> str:
    """A key as part of a JSON pointer (RFC 6901), printable."""
    return printable(str(key), 120).replace("~", "~0").replace("/", "~1")


def quote(text: object, length: int = 80) -> str:
    """Text from the file, safe to show: Python's repr, ASCII, cut."""
    shown = ascii(text[: length + 1] if isinstance(text, (str, bytes)) else text)
    return shown if len(shown) <= length else shown[: length - 1] + "…"
