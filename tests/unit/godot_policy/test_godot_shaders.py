"""Shader code under a policy."""

from __future__ import annotations

import pytest

from cloudbaker.compute.godot.policy import Shaders
from cloudbaker.compute.godot.shaders import check_shader

RULES = Shaders(allowed=True)


def fragment(body: str) -> str:
    return f"shader_type spatial;\n\nvoid fragment() {{\n{body}\n}}\n"


def codes(code: str, rules: Shaders = RULES) -> list[str]:
    return [problem for problem, _, _ in check_shader(code, rules)]


@pytest.mark.parametrize(
    "body",
    [
        "ALBEDO = vec3(1.0);",
        "for (int i = 0; i < 16; i++) { ALBEDO.r += float(i); }",
        "for(int i=16;i>0;--i){ ALBEDO.r += 0.1; }",
        "for (uint k = 0u; k <= 15u; k += 3u) { ALBEDO.r += 0.1; }",
        "for (int i = 0; i < 8; i++) { for (int j = 0; j < 8; j++) { if (i == j) { break; } } }",
        "// while (true) {}\n/* do {} while (true) */ ALBEDO = vec3(0.0);",
        "float forward = 1.0; float whiled = 2.0; float dot_do = 3.0;",
    ],
)
def test_everyday_shaders_pass(body: str) -> None:
    assert codes(fragment(body)) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("while (ALBEDO.r < 1.0) { }", "shader.loop"),
        ("do { } while (false);", "shader.loop"),
        ("for (;;) { }", "shader.loop"),
        ("for (int i = 0; ; i++) { }", "shader.loop"),
        ("for (int i = 0; i < N; i++) { }", "shader.loop"),
        ("for (float f = 0.0; f < 1.0; f += 0.000001) { }", "shader.loop"),
        ("for (int i = 0; i < 10; i--) { }", "shader.loop"),
        ("for (int i = 0; i < 10; i += 0) { }", "shader.loop"),
        ("for (int i = 0; i < 10; j++) { }", "shader.loop"),
        ("for (int i = 0; i < 10; i++) i = 0;", "shader.loop"),
        ("for (int i = 0; i < 10; i++) { i -= 1; }", "shader.loop"),
        ("for (int i = 0; i < 10; i++) { --i; }", "shader.loop"),
        ("for (int i = 0; i < 10; i++) { if (true) { i = 0; } }", "shader.loop"),
        ("for (int i = 0; i < 2147483647; i++) { }", "shader.loop"),
        ("for (int i = 0; i < 5000; i++) { }", "shader.iterations"),
        ("for (int i = 0; i < 100; i++) { for (int j = 0; j < 100; j++) { } }", "shader.iterations"),
        ("for (int i = 0; i < 2; i++) { }\n" * 9, "shader.iterations"),
        ("whi\\\nle (true) { }", "shader.include"),
        ("whi/* */le (true) { }", ""),
    ],
)
def test_loops_without_a_provable_end_do_not(body: str, code: str) -> None:
    assert set(codes(fragment(body))) == ({code} if code else set()), "a comment in a word makes two words of it"


def test_functions_that_loop_count_as_if_one_called_the_other() -> None:
    loop = "for (int i = 0; i < 100; i++) { x += 1.0; }"
    inner = f"float inner() {{ float x = 0.0; {loop} return x; }}\n"
    assert codes(inner) == []
    assert codes(inner + fragment(loop)) == ["shader.iterations"]


def test_a_variable_given_away_as_out_may_come_back_changed() -> None:
    given = "void reset(out int x) { x = 0; }\n" + fragment("for (int i = 0; i < 8; i++) { reset(i); }")
    assert codes(given) == ["shader.loop"]
    assert codes(fragment("for (int i = 0; i < 8; i++) { ALBEDO.r = float(i); }")) == []


@pytest.mark.parametrize(
    "line",
    [
        "#define L while (true)",
        "#define L for",
        "#define OPEN {",
        "#define PASTE(a, b) a ## b",
        '#include "res://src/x.gdshaderinc"',
    ],
)
def test_the_preprocessor_must_not_write_loops(line: str) -> None:
    assert codes(f"shader_type spatial;\n{line}\n") == ["shader.include"]


def test_macros_of_everyday_pass() -> None:
    assert codes("shader_type spatial;\n#define PI2 (2.0 * PI)\n#ifdef X\n#endif\n" + fragment("ALBEDO.r = PI2;")) == []


def test_findings_name_the_line() -> None:
    ((_, line, _),) = check_shader(fragment("// one\n/* two\nthree */\nwhile (true) { }"), RULES)
    assert line == 7


def test_long_code_is_refused_unread() -> None:
    assert codes("x" * 70_000) == ["shader.too-large"]
