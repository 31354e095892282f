"""What the scan reads as text, the engine must not read as a script: the same bytes, read by both.

Scripts are hidden in strings, comments and keys of a harmless resource, between everything that a parser can trip over.
What the scan lets pass is loaded in the real engine; a script that runs writes a file of its number. Mutants that the
scan rejects are loaded too, a sample of them: some of these scripts do run, or the test would prove nothing.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudbaker.compute.godot.engines import Engine, list_engines
from cloudbaker.compute.godot.policy import load_policy
from cloudbaker.compute.godot.scan import scan
from cloudbaker.compute.job import Limits
from cloudbaker.compute.sandbox import run_tool
from cloudbaker.model import VerdictKind
from cloudbaker.settings import Settings
from cloudbaker.testing.godot_mods import SYNTAX, Syntax

POLICY = load_policy()
SAMPLE = 12
"""One in so many of the rejected mutants is loaded in the engine."""
PIECES = (
    *('"', "\\", "\\\\", '\\"', "\n", "\r", "\r\n", ";", " ", "\t", "\x0b", "\x0c", "\x1f", "\x7f", "\u0085", "\u2028"),
    *(
        "\ufeff",
        '&"',
        '@"',
        "^",
        "#",
        "\\u0022",
        "\\U000022",
        "\\n",
        "\\x22",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "=",
    ),
    *("null", "1", "-", ".", "e5", "abc", "SCRIPT", "SCRIPT", "SCRIPT"),
)
_OPEN = {
    3: "var f = File.new()\n\tf.open('user' + '://{}', File.WRITE)",
    4: "var f = FileAccess.open('user' + '://{}', FileAccess.WRITE)",
}
_LOAD = """extends SceneTree
func _init():
	for path in [PATHS]:
		var _r = load(path)
	print("END")
	quit()
"""


def mutant(s: Syntax, seed: int) -> bytes:
    """A resource with a script somewhere in it. The script's file is named like the seed."""
    chance = random.Random(seed)
    base = "Reference" if s.major == 3 else "Resource"
    code = f"extends {base}\nfunc _init():\n\t{_OPEN[s.major].format(seed)}\n\tf.store_string('x')\n\tf.close()\n"
    source = s.gdscript(code).partition("=")[2].strip()
    script = f'Object(GDScript,"script/source":{source})'
    hidden = chance.choice((f"script={script}", f'"script"={script}', f'x = Object(Resource,"script":{script})'))

    def noise() -> str:
        return "".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 7))).replace("SCRIPT", hidden)

    key = "metadata/x" if s.major == 4 else "resource_name"
    value = chance.choice(
        (
            f'{key} = "{noise()}"',
            f'{key} = "a" ;{noise()}',
            f';{noise()}\n{key} = "a"',
            f'{key} = "{noise()}" ;{noise()}',
            f'{key} {noise()}= "a{noise()}"\n{key} = 5',
            f'{key} = "a"\n{noise()}',
        )
    )
    where = chance.randrange(3)
    head = f'[gd_resource type="Resource" format={s.format}]' + (f" ;{noise()}" if where == 1 else "")
    part = s.sub_resource("Gradient", 1, value if where == 0 else "")
    return f"{head}\n{part}\n[resource]\n{value}\n".encode("utf-8", "surrogatepass")


def compare(engine: Engine, first: int, count: int, scratch: Path) -> tuple[int, int]:
    """How many mutants the scan let pass, and how many of the rejected sample did run their script."""
    s = SYNTAX[engine.major]
    manifest = memoryview(s.manifest(entry_scenes="[]"))
    passed: set[int] = set()
    sample: set[int] = set()
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "game/r").mkdir(parents=True)
    for seed in range(first, first + count):
        data = mutant(s, seed)
        inputs = {"manifest.tres": manifest, "a.tres": memoryview(data)}
        if scan(inputs, POLICY, engine=engine.short).verdict.kind is VerdictKind.PASS:
            passed.add(seed)
        elif seed % SAMPLE == 0:
            sample.add(seed)
        else:
            continue
        (scratch / f"game/r/{seed}.tres").write_bytes(data)
    (scratch / "game/project.godot").write_text(
        "config_version=5\n" if engine.major == 4 else 'config_version=4\n\n[application]\n\nconfig/name="game"\n'
    )
    paths = ", ".join(f'"res://r/{seed}.tres"' for seed in sorted(passed | sample))
    (scratch / "game/load.gd").write_text(_LOAD.replace("PATHS", paths))
    for item in [scratch, *scratch.rglob("*")]:
        item.chmod(0o777 if item.is_dir() else 0o666)
    headless = ["--headless"] if engine.major == 4 else []
    outcome = run_tool(
        [*engine.command, *headless, "--path", "/scratch/game", "-s", "res://load.gd"],
        scratch=scratch,
        ro=engine.folders,
        env={"HOME": "/scratch/home", "LC_ALL": "C.UTF-8"},
        limits=Limits(memory_bytes=2 << 30, cpu_seconds=120, wall_seconds=240.0, file_bytes=256 << 20),
    )
    assert b"END" in outcome.stdout, (outcome.stdout + outcome.stderr)[-2000:]
    ran = {int(path.name) for path in (scratch / "home").rglob("*") if path.is_file() and path.name.isdigit()}
    assert ran & passed == set(), f"the scan let scripts pass: {sorted(ran & passed)}"
    return len(passed), len(ran & sample)


def engine_of(major: int) -> Engine:
    found = [e for e in list_engines(Settings()).values() if isinstance(e, Engine) and e.major == major]
    if not found:
        pytest.skip(f"no Godot {major}: `cloudbaker engines install godot-{major}`")
    return max(found, key=lambda engine: engine.number)


@pytest.mark.parametrize("major", [3, 4])
def test_no_script_hides_from_the_scan(major: int, tmp_path: Path, tell: Callable[[str], None]) -> None:
    engine = engine_of(major)
    passed, ran = compare(engine, 0, 800, tmp_path / "scratch")
    assert passed > 100
    assert ran > 0, "no script ran at all"
    tell(f"{passed} of 800 mutants passed and ran nothing in Godot {engine.short}; {ran} of the rejected sample ran")


@pytest.mark.slow
@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("block", range(5))
def test_no_script_hides_from_the_scan_for_long(major: int, block: int, tmp_path: Path) -> None:
    passed, ran = compare(engine_of(major), 1000 + block * 4000, 4000, tmp_path / "scratch")
    assert passed > 500
    assert ran > 0
