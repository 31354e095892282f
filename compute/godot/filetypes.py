"""What a file of a mod is: what its name claims, what its bytes are, and whether something hides behind them.

A header is read, never a picture or a sound: 300 MB/s and more. What looks at the whole is the hash of the pack.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.godot.policy import Policy
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.compute.textures.headers import image_header

_SCRIPTS = (
    *("gd", "gdc", "gde", "gdns", "gdscript", "nativescript", "vs", "visualscript", "cs", "csproj", "sln", "fs", "vb"),
    *(
        "py",
        "pyc",
        "lua",
        "js",
        "mjs",
        "ts",
        "wren",
        "rb",
        "nut",
        "sh",
        "bash",
        "bat",
        "cmd",
        "ps1",
        "vbs",
        "pl",
        "php",
    ),
)
_NATIVE = (
    *("gdextension", "gdnlib", "gdnative", "dll", "so", "dylib", "framework", "a", "lib", "o", "obj", "exe", "com"),
    *("wasm", "node", "pyd", "jar", "class", "dex", "apk", "aab", "aar", "ipa", "app", "appimage", "msi", "spv"),
)
_PROJECT = ("godot", "cfg", "ini", "gdip", "gdignore", "uid")
_IMPORTED = (
    *("import", "remap", "md5", "stex", "ctex", "ctexarray", "ctex3d", "ccube", "ccubearray", "image", "bitmap"),
    *("sample", "oggstr", "oggvorbisstr", "mp3str", "fontdata", "translation", "occ", "mesh_lib", "cache", "texarr"),
)
_PACKS = ("pck", "pcz", "zip", "7z", "rar", "gz", "tgz", "tar", "xz", "bz2", "zst")
BANNED_EXTENSIONS: Final[dict[str, str]] = {
    **dict.fromkeys(_SCRIPTS, "file.script"),
    **dict.fromkeys(_NATIVE, "file.native"),
    **dict.fromkeys(_PROJECT, "file.project"),
    **dict.fromkeys(_IMPORTED, "file.imported"),
    **dict.fromkeys(_PACKS, "file.pack"),
}
"""Extension → code, so that the finding says more than "not on the list"."""
_PROJECT_NAMES = frozenset(
    {
        "project.binary",
        "uid_cache.bin",
        ".gdignore",
        "global_script_class_cache.cfg",
        "extension_list.cfg",
        "addons.cfg",
    }
)
_LOADED_AS = re.compile(rb"\.so(\.\d+)+$")

_MAGICS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x7fELF", "file.native", "a Linux program or library (ELF)"),
    (b"\xfe\xed\xfa\xce", "file.native", "a Mach-O program"),
    (b"\xfe\xed\xfa\xcf", "file.native", "a Mach-O program"),
    (b"\xce\xfa\xed\xfe", "file.native", "a Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "file.native", "a Mach-O program"),
    (b"\xca\xfe\xba\xbe", "file.native", "a universal Mach-O program or Java class"),
    (b"\x00asm", "file.native", "a WebAssembly module"),
    (b"!<arch>\n", "file.native", "a static library"),
    (b"dex\n", "file.native", "an Android program"),
    (b"\x03\x02\x23\x07", "file.native", "a SPIR-V shader"),
    (b"GDSC", "file.script", "compiled GDScript"),
    (b"GDEC", "file.script", "an encrypted file, as compiled GDScript is"),
    (b"#!", "file.script", "a script for a shell"),
    (b"GDPC", "file.pack", "a Godot pack"),
    (b"PK\x03\x04", "file.pack", "a ZIP archive"),
    (b"PK\x05\x06", "file.pack", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "file.pack", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "file.pack", "a RAR archive"),
    (b"\x1f\x8b", "file.pack", "a gzip file"),
    (b"\xfd7zXZ\x00", "file.pack", "an xz file"),
    (b"BZh", "file.pack", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "file.pack", "a Zstandard file"),
    (b"GCPF", "file.pack", "a compressed Godot file"),
    (b"GST2", "file.imported", "an imported texture of Godot 4"),
    (b"GDST", "file.imported", "an imported texture of Godot 3"),
    (b"GDAT", "file.imported", "an imported texture array"),
    (b"GD3D", "file.imported", "an imported 3D texture"),
)
_KINDS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"glTF", "glb"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"ID3", "mp3"),
    (b"RSRC", "binary"),
    (b"RSCC", "binary"),
    (b"\x00\x01\x00\x00", "font"),
    (b"OTTO", "font"),
    (b"ttcf", "font"),
    (b"wOFF", "font"),
    (b"wOF2", "font"),
)
_TEXTS = frozenset({"scene", "resource", "shader", "text", "gltf"})
_TAIL = 22 + 0xFFFF


def extension(path: str) -> str:
    """The lower-case extension, also of names that begin with a dot: ``.gdignore`` → ``gdignore``."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def extension_ban(path: str) -> str | None:
    """The code under which a file's name is refused whatever it holds, or None."""
    name = path.rpartition("/")[2].lower()
    if name in _PROJECT_NAMES or "/.godot/" in path or "/.import/" in path:
        return "file.project" if name in _PROJECT_NAMES else "file.imported"
    if _LOADED_AS.search(name.encode()):
        return "file.native"
    return BANNED_EXTENSIONS.get(extension(path))


def content(data: memoryview) -> tuple[str, str]:
    """What bytes are: a code of a finding and words for what is never allowed, else ``("", kind)``.

    Kinds are those of a policy's files, ``unknown`` for anything else that is no text, and ``text``.
    """
    head = bytes(data[:64])
    for magic, code, words in _MAGICS:
        if head.startswith(magic):
            return code, words
    if head.startswith(b"MZ") and _is_program(data):
        return "file.native", "a Windows program or library (PE)"
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return "", kind
    if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"WEBP"):
        return "", "wav" if head[8:12] == b"WAVE" else "webp"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6):
        return "", "mp3"
    return "", "unknown" if b"\0" in bytes(data[:4096]) else "text"


def _is_program(data: memoryview) -> bool:
    if len(data) < 64:
        return False
    (at,) = struct.unpack_from("<I", data, 60)
    return bytes(data[at : at + 2]) in (b"PE", b"NE", b"LE", b"LX")


def check_file(path: str, data: memoryview, policy: Policy, findings: ScanFindings) -> str:
    """Name and bytes of a file; returns its kind where both agree and are allowed, else an empty text."""
    if not len(data):
        findings.add("file.empty", path, "it has no bytes")
        return ""
    if len(data) > policy.limits.file_bytes:
        findings.add("file.too-large", path, f"{len(data):,} bytes, the limit is {policy.limits.file_bytes:,}")
    code, found = content(data)
    banned = extension_ban(path)
    if banned is not None:
        findings.add(banned, path, f"{quote(path.rpartition('/')[2])} is a file of a kind that no mod may hold")
    if code:
        findings.add(code, path, f"by its bytes it is {found}")
    if banned is not None or code:
        return ""
    wanted = policy.files.get(extension(path), "")
    if not wanted:
        findings.add("file.extension", path, f"the policy {policy.name} allows no .{quote(extension(path), 20)[1:-1]}")
        return "binary" if found == "binary" else ""
    if found == "binary":
        # Several engines look at the bytes, not the name.
        if not policy.binary_resources:
            findings.add("file.binary-resource", path, "it is a binary resource")
        elif wanted != "binary":
            findings.add("file.content", path, "by its bytes it is a binary resource")
        return "binary"
    matches = wanted in (found, "buffer") or (wanted in _TEXTS and found == "text")
    if not matches:
        findings.add(
            "file.content", path, f"by its bytes it is {'of an unknown kind' if found == 'unknown' else found}"
        )
        return ""
    if wanted not in _TEXTS and (hidden := appended(data)):
        findings.add("file.appended", path, f"{hidden} is appended to it")
    if check := _CHECKS.get(wanted):
        check(path, data, policy, findings)
    return wanted


def appended(data: memoryview) -> str:
    """What hides at a file's end, where the engine's loaders look for it: a pack or an archive."""
    if len(data) >= 12 and bytes(data[-4:]) == b"GDPC":
        return "a Godot pack"
    tail = bytes(data[-_TAIL:])
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + 22 <= len(tail):
            entries, _, size, _, comment = struct.unpack_from("<HHIIH", tail, at + 8)
            if at + 22 + comment == len(tail) and (entries or size):
                return "a ZIP archive"
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return ""


def _image(path: str, data: memoryview, policy: Policy, findings: ScanFindings) -> None:
    try:
        header = image_header(data)
    except ValueError as error:
        findings.add("image.invalid", path, str(error))
        return
    if header.pixels > policy.limits.image_pixels:
        findings.add(
            "image.too-large",
            path,
            f"{header.width:,} × {header.height:,} pixels, the limit is {policy.limits.image_pixels:,} in all",
        )
    end = {"image/png": _png_end, "image/webp": _riff_end}.get(header.mime)
    if end is not None and (at := end(data)) != len(data):
        what = "it ends before its last chunk" if at > len(data) else f"{len(data) - at:,} bytes follow its end"
        findings.add("image.invalid" if at > len(data) else "file.appended", path, what)


def _png_end(data: memoryview) -> int:
    """Where the last chunk ends."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        last = bytes(data[at + 4 : at + 8]) == b"IEND"
        at += 12 + length
        if last:
            return at
    return max(at, len(data) + 1)


def _riff_end(data: memoryview) -> int:
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + int(length)
    return len(data) if len(data) - end in (0, 1) else end


def _wav(path: str, data: memoryview, policy: Policy, findings: ScanFindings) -> None:
    at = 12
    seen: set[bytes] = set()
    while at + 8 <= len(data) and len(seen) < 4096:
        name, length = struct.unpack_from("<4sI", data, at)
        seen.add(bytes(name))
        at += 8 + length + length % 2
    if b"fmt " not in seen or b"data" not in seen:
        findings.add("audio.invalid", path, "it has no format or no samples")
    elif _riff_end(data) != len(data):
        findings.add("audio.invalid", path, "its size is not what its header says")


def _ogg(path: str, data: memoryview, policy: Policy, findings: ScanFindings) -> None:
    head = bytes(data[28:36])
    if not head.startswith((b"\x01vorbis", b"OpusHead")):
        findings.add("audio.invalid", path, "it is no Vorbis and no Opus")
    at = bytes(data[-_TAIL:]).rfind(b"OggS")
    if at >= 0:
        page = data[max(0, len(data) - _TAIL) + at :]
        segments = page[26] if len(page) > 26 else 0
        if 27 + segments + sum(page[27 : 27 + segments]) != len(page):
            findings.add("file.appended", path, "its last page does not end with the file")
    else:
        findings.add("file.appended", path, "its last page is far from its end")


def _text(path: str, data: memoryview, policy: Policy, findings: ScanFindings) -> None:
    if len(data) > policy.limits.text_bytes:
        findings.add("file.too-large", path, f"{len(data):,} bytes, the limit is {policy.limits.text_bytes:,}")
        return
    try:
        text = bytes(data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.add("text.encoding", path, f"it is not UTF-8 at byte {error.start}")
        return
    if "\0" in text:
        findings.add("text.encoding", path, "it holds a NUL")


_Check = Callable[[str, memoryview, Policy, ScanFindings], None]
_CHECKS: Final[dict[str, _Check]] = {
    **dict.fromkeys(("png", "jpeg", "webp"), _image),
    **{"wav": _wav, "ogg": _ogg, "text": _text},
}
