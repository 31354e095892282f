"""Shader code under a policy: what it may hold, and that every loop in it ends soon.

A shader can't open files or call anything, but a driver that runs a loop of 2³¹ steps takes the desktop with it. So a
loop passes only in the one form whose end can be read off, ``for (int i = a; i < b; i++)`` with whole numbers for a and
b (and ``<=``, ``>``, ``>=``, ``--``, ``+= n``, ``uint``), and all loops together are bounded: those in one another
multiplied, and those of different functions, too, since one may call the other. The preprocessor could write loops
behind our back, so macros must not touch what loops are made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cloudbaker.compute.godot.policy import Shaders

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|/\*.*\Z", re.DOTALL)
_CONTINUED = re.compile(r"\\\r?\n")
_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+)[ \t]*([^\n]*)$", re.MULTILINE)
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|\S")
_FOR = re.compile(
    r"for\s*\(\s*(?:int|uint)\s+(?P<i>[A-Za-z_]\w*)\s*=\s*(?P<a>-?\d+)u?\s*;"
    r"\s*(?P=i)\s*(?P<op><=|>=|<|>)\s*(?P<b>-?\d+)u?\s*;"
    r"\s*(?:(?P=i)\s*(?P<step>\+\+|--)|(?P<pre>\+\+|--)\s*(?P=i)|(?P=i)\s*(?P<assign>\+=|-=)\s*(?P<by>\d+)u?)\s*\)"
)
_LOOPS = frozenset({"for", "while", "do"})
Problem = tuple[str, int, str]
"""Code of a finding, line from 1, message."""


def check_shader(code: str, rules: Shaders) -> Iterator[Problem]:
    """What is wrong with a shader. Linear in its length."""
    if len(code.encode()) > rules.bytes:
        yield "shader.too-large", 1, f"it has {len(code.encode()):,} bytes, the limit is {rules.bytes:,}"
        return
    if split := re.search(r"\w\\\r?\n\w", code):
        # One word or two? Readers differ.
        yield "shader.include", code.count("\n", 0, split.start()) + 1, "a backslash divides a word"
    text = _CONTINUED.sub(" ", _COMMENT.sub(lambda m: " " + "\n" * m[0].count("\n"), code))
    for match in _DIRECTIVE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match[1] == "include":
            yield "shader.include", line, "it includes another file"
        elif match[1] == "define" and (_LOOPS & set(_TOKEN.findall(match[2])) or "#" in match[2] or "{" in match[2]):
            yield "shader.include", line, "a macro holds a loop, a brace or a paste"
        elif match[1] == "define" and not re.fullmatch(r"\w+(?:\([^)]*\))?(?:[ \t]+.*)?", match[2]):
            yield "shader.include", line, "a macro can't be read"
    macros = {m[1] for m in re.finditer(r"#[ \t]*define[ \t]+(\w+)", text)}
    yield from _loops(_DIRECTIVE.sub("", text), macros, rules)


def _loops(text: str, macros: set[str], rules: Shaders) -> Iterator[Problem]:
    """Each loop in its place; the braces say what is within what."""
    total, count, everything = 0, 0, 1
    open_: list[tuple[int, int]] = []  # depth of braces at which a loop's body ends, iterations within it
    depth, line, at = 0, 1, 0
    factor = 1
    for token in _TOKEN.finditer(text):
        line += text.count("\n", at, token.start())
        at = token.start()
        word = token[0]
        if word == "{":
            depth += 1
        elif word == "}":
            depth -= 1
            while open_ and open_[-1][0] >= depth:
                factor = open_.pop()[1]
            if depth == 0:  # the end of a function
                everything, total = everything * max(total, 1), 0
        elif word in ("while", "do"):
            yield "shader.loop", line, f"a {word} loop"
        elif word == "for":
            count += 1
            match = _FOR.match(text, token.start())
            times = _times(match) if match is not None else None
            body = match.end() if match is not None else 0
            if match is None or times is None or {match["i"]} & macros:
                yield "shader.loop", line, "a for loop whose end can't be read off"
            elif not re.compile(r"\s*\{").match(text, body):
                yield "shader.loop", line, "a for loop without braces"
            elif _assigned(text, body, match["i"]):
                yield "shader.loop", line, f"the body sets {match['i'][:40]}, the variable of its loop"
            else:
                open_.append((depth, factor))
                factor *= max(times, 1)
                total += factor
    if count > rules.loops:
        yield "shader.iterations", 1, f"it has {count} loops, the limit is {rules.loops}"
    elif everything > rules.iterations:
        yield "shader.iterations", 1, f"its loops run up to {everything:,} times, the limit is {rules.iterations:,}"


def _times(match: re.Match[str]) -> int | None:
    first, last = int(match["a"]), int(match["b"])
    step = match["step"] or match["pre"] or match["assign"]
    by = int(match["by"] or 1) * (1 if step[0] == "+" else -1)
    if by == 0 or abs(first) > 1 << 24 or abs(last) > 1 << 24 or (by > 0) != (match["op"][0] == "<"):
        return None
    return max(0, (last - first) // by + 1)


def _assigned(text: str, start: int, name: str) -> bool:
    """Whether a loop's body (from its brace on) may change a variable: set, counted, or given away as out."""
    depth, end = 0, len(text)
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            end = brace.end()
            break
    body = text[start:end]
    word = rf"\b{re.escape(name)}\b"
    changed = rf"{word}\s*(?:[-+*/%&|^]|<<|>>)?=(?!=)|(?:\+\+|--)\s*{word}|{word}\s*(?:\+\+|--)"
    if re.search(changed, body) is not None:
        return True
    # As an argument of a function it can come back changed, if there are such functions.
    given = rf"(?<!\bfloat)(?<!\bint)(?<!\buint)\s*[(,]\s*{word}\s*[,)]"
    return re.search(r"\b(?:in)?out\b", text) is not None and re.search(given, body) is not None
