"""Whatever is done to a mod, the scan ends in a verdict: no exception, no hang."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable

import pytest

from cloudbaker.compute.godot.policy import Policy, load_policy
from cloudbaker.compute.godot.scan import scan
from cloudbaker.model import VerdictKind
from cloudbaker.testing.godot_harmless import HARMLESS
from cloudbaker.testing.godot_hostile import ATTACKS

DEFAULT, BLOCK = 300, 500
POLICY = Policy.model_validate(
    {
        **load_policy("shaders").model_dump(mode="json"),
        "binary_resources": True,
        "game_paths": ["res://shared/*.tscn"],
    }
)
"""The most that any policy lets through to the deeper checks."""
SEEDS = [
    item for item in (*HARMLESS, *ATTACKS) if item.form == "folder" and item.name not in ("many-nodes", "image-bomb")
]
WORDS = (
    *(
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b"(",
        b")",
        b"=",
        b"\n",
        b"\\u0053",
        b"\xff",
        b"\0",
        b"-1",
        b"9" * 30,
        b"1e999",
        b"nan",
    ),
    *(
        b"res://",
        b'NodePath("../..")',
        b'SubResource("1")',
        b'ExtResource("1")',
        b'Object(Resource,"script":null)',
        b'&"x"',
    ),
    *(
        b'[node name="a" parent="b"]\n',
        b"tracks/0/path = 5\n",
        b"tracks/0/type = 3\n",
        b"libraries = 7\n",
        b"root_node = 3\n",
    ),
    *(b"metadata/id = [1]\n", b"metadata/engine = {1: 2}\n", b"__meta__ = 5\n", b'amount = "nan"\n', b'uid="0xzz" '),
)


def mutated(chance: random.Random) -> dict[str, bytes]:
    files = dict(chance.choice(SEEDS).make())
    for _ in range(chance.choice((1, 1, 2, 4))):
        name = chance.choice(sorted(files))
        data = bytearray(files[name])
        if not data:
            continue
        at = chance.randrange(len(data))
        line = data.find(b"\n", at) + 1
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = chance.choice(WORDS)
            case 2:
                del data[at : at + chance.randrange(1, 40)]
            case 3:
                other = chance.randrange(len(data))
                data[at:at] = data[other : other + chance.randrange(1, 200)]
            case _:
                data[line:line] = chance.choice(WORDS)
        files[name] = bytes(data)
    return files


def run(first: int, count: int) -> collections.Counter[str]:
    verdicts = collections.Counter[str]()
    for seed in range(first, first + count):
        chance = random.Random(seed)
        inputs = {name: memoryview(data) for name, data in mutated(chance).items()}
        found = scan(inputs, POLICY, engine=chance.choice(("3.2.3", "3.6", "4.6.3", "")))
        verdicts[found.verdict.kind.value] += 1
        assert (found.verdict.kind is VerdictKind.REJECT) == any(f.severity == "error" for f in found.verdict.findings)
    return verdicts


def test_mutants_of_mods_end_in_a_verdict(tell: Callable[[str], None]) -> None:
    verdicts = run(0, DEFAULT)
    assert verdicts["reject"] > verdicts["pass"]
    tell(f"{DEFAULT} mutants of mods: {dict(verdicts)}")


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_mutants_of_mods_end_in_a_verdict(block: int) -> None:
    assert sum(run(DEFAULT + block * BLOCK, BLOCK).values()) == BLOCK
