"""Every hostile mod is stopped, every everyday mod passes, and the attacks are real: an engine falls for them.

The proofs run the engine in bubblewrap, without network, on a game of its own; an attack that works writes a marker.
"""

from __future__ import annotations

import collections
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloudbaker.cli import cli
from cloudbaker.compute.godot.engines import Engine, list_engines
from cloudbaker.compute.godot.policy import Policy, load_policy
from cloudbaker.compute.godot.scan import Scan, scan
from cloudbaker.compute.godot.scan_rules import RULES
from cloudbaker.compute.job import Job, Limits, Outcome
from cloudbaker.compute.sandbox import Sandbox, run_tool
from cloudbaker.model import Severity, VerdictKind
from cloudbaker.settings import Settings
from cloudbaker.testing.godot_harmless import HARMLESS
from cloudbaker.testing.godot_hostile import ATTACKS, MARKER, PROVEN, Attack
from cloudbaker.testing.godot_mods import ROOT, SYNTAX, as_pck, mod
from cloudbaker.testing.godot_packs import pack

DEFAULT = load_policy()
ENGINE_OF = {3: "3.6", 4: "4.6.3"}


def policy_of(attack: Attack) -> Policy:
    return Policy.model_validate({**DEFAULT.model_dump(mode="json"), **attack.policy}) if attack.policy else DEFAULT


def scanned(attack: Attack) -> Scan:
    inputs = {name: memoryview(data) for name, data in attack.make().items()}
    return scan(inputs, policy_of(attack), engine=ENGINE_OF[attack.engine], special=attack.links)


def test_every_hostile_mod_is_stopped_for_its_own_reason(tell: Callable[[str], None]) -> None:
    passed, wrong, seen = [], [], collections.Counter[str]()
    for attack in ATTACKS:
        found = scanned(attack)
        codes = {finding.code for finding in found.verdict.findings}
        seen.update(codes & RULES.keys())
        if found.verdict.kind is not VerdictKind.REJECT:
            passed.append(str(attack))
        if attack.code not in codes:
            wrong.append(f"{attack}: {attack.code} is not in {sorted(codes)}")
        assert all(finding.remedy and finding.message for finding in found.verdict.findings), str(attack)
    assert passed == []
    assert wrong == []
    assert len(ATTACKS) >= 150
    assert len({(attack.name, attack.engine) for attack in ATTACKS}) >= 150
    reasons = {attack.code for attack in ATTACKS}
    tell(f"{len(ATTACKS)} hostile packs and projects stopped, {len(reasons)} different reasons")


def test_everyday_mods_pass(tell: Callable[[str], None]) -> None:
    rejected = {}
    for item in HARMLESS:
        found = scan({n: memoryview(d) for n, d in item.make().items()}, DEFAULT, engine=ENGINE_OF[item.engine])
        if found.verdict.kind is not VerdictKind.PASS:
            rejected[str(item)] = [f"{f.code} {f.place}: {f.message}" for f in found.verdict.findings]
        assert found.manifest is not None, str(item)
    assert rejected == {}
    assert len(HARMLESS) >= 50
    tell(f"{len(HARMLESS)} harmless mods pass")


def test_mods_of_godot_3_pass_for_godot_4() -> None:
    """An engine upgrade bakes the stored sources of Godot 3 again; Godot 4 knows the old names."""
    for item in HARMLESS:
        if item.engine == 3 and not item.form.startswith("pck"):
            found = scan({n: memoryview(d) for n, d in item.make().items()}, DEFAULT, engine="4.6.3")
            assert found.verdict.kind is VerdictKind.PASS, (str(item), found.verdict.findings[:3])


def test_one_script_decides_and_the_report_names_everything_else() -> None:
    syntax = SYNTAX[4]
    files = mod(
        {
            "evil.gd": b"extends Node",
            "a.png": b"no picture",
            "b.tscn": syntax.scene(
                syntax.root('script = ExtResource("1")') + '[connection signal="a" from="." to="." method="b"]\n',
                syntax.ext_resource("Script", "res://mods/oak/evil.gd", 1),
            ),
        }
    )
    found = scan({n: memoryview(d) for n, d in files.items()}, DEFAULT, engine="4.6")
    assert found.verdict.kind is VerdictKind.REJECT
    places = {finding.code: finding.place for finding in found.verdict.findings}
    assert {"file.script", "file.content", "script.source", "script.property", "scene.connection"} <= places.keys()
    assert places["script.property"] == "res://mods/oak/b.tscn:6"
    assert found.manifest is not None, "what is good is still read"


@pytest.mark.parametrize("attack", ATTACKS[::97], ids=str)
def test_the_job_says_the_same_in_the_sandbox(attack: Attack, sandbox: Sandbox) -> None:
    outcome = _run(sandbox, attack).unwrap()
    assert outcome.value["verdict"] == "reject"
    assert attack.code in {finding["code"] for finding in outcome.value["findings"]}


def _run(sandbox: Sandbox, attack: Attack) -> Outcome:
    return sandbox.run(
        Job(
            "cloudbaker.compute.godot.scan:scan_job",
            dict(attack.make()),
            {
                "policy": policy_of(attack).model_dump(mode="json"),
                "engine": ENGINE_OF[attack.engine],
                "special": list(attack.links),
            },
            Limits(cpu_seconds=60, wall_seconds=60.0),
        )
    )


def test_the_command_line_gives_verdict_and_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "oak"
    folder.mkdir()
    for path, data in mod({}).items():
        (folder / path).write_bytes(data)
    run = CliRunner().invoke
    good = run(cli, ["scan", str(folder), "--json"], standalone_mode=False)
    assert good.return_value == 0
    value = json.loads(good.output)
    assert value["verdict"] == "pass"
    assert value["facts"]["manifest"]["name"] == "Oak"
    assert value["facts"]["policy_hash"] == DEFAULT.hash
    (folder / "evil.gd").write_text("extends Node")
    (folder / "link").symlink_to("/etc/passwd")
    bad = run(cli, ["scan", str(folder)], standalone_mode=False)
    assert bad.return_value == 3
    assert "file.script" in bad.output
    assert "mod.link" in bad.output
    three = tmp_path / "three.pck"
    three.write_bytes(as_pck(mod({}, 3), 1))
    assert "classes of godot-3.6" in run(cli, ["scan", str(three)], standalone_mode=False).output
    assert "classes of godot-3.2" in run(cli, ["scan", str(three), "--engine", "3.2.3"], standalone_mode=False).output


# --- proofs in the real engines


def engine_for(major: int) -> Engine:
    """The newest engine of a family, or a skip that says how to get one."""
    found = [e for e in list_engines(Settings()).values() if isinstance(e, Engine) and e.major == major]
    if not found:
        pytest.skip(f"no Godot {major}: `cloudbaker engines install godot-{major}`")
    return max(found, key=lambda engine: engine.number)


_GAME = {
    3: '[application]\nconfig/name="game"\n[autoload]\nGlobal="*res://src/global.gd"\n',
    4: 'config_version=5\n[application]\nconfig/name="game"\n[autoload]\nGlobal="*res://src/global.gd"\n',
}
_WRITE = {
    3: f"var f = File.new()\n\tf.open('user://{MARKER}', File.WRITE)\n\tf.store_string('{PROVEN}')\n\tf.close()\n",
    4: f"var f = FileAccess.open('user://{MARKER}', FileAccess.WRITE)\n\tf.store_string('{PROVEN}')\n\tf.close()\n",
}
_GLOBAL = {
    3: "extends Node\nvar owned = false setget own\nvar visible = false setget own\nfunc own(_x = true):\n\t"
    + _WRITE[3],
    4: "extends Node\nvar owned = false:\n\tset(x):\n\t\town()\nvar visible = false:\n\tset(x):\n\t\town()\n"
    "func own():\n\t" + _WRITE[4],
}
_PROBE = {
    3: """extends SceneTree
var frames = 0
func _init():
	ProjectSettings.load_resource_pack("/scratch/game.pck")
	print("LOADED ", ProjectSettings.load_resource_pack("/scratch/mod.pck", REPLACE))
func _idle(_delta):
	frames += 1
	if frames == 1:
		if "TARGET".ends_with(".txt"):
			var t = File.new()
			var opened = t.open("TARGET", File.READ)
			print("TEXT ", opened, " ", t.get_as_text() if opened == OK else "")
		else:
			var r = load("TARGET")
			print("GOT ", r)
			if r is PackedScene: get_root().add_child(r.instance())
	if frames > 8: quit()
	return false
""",
    4: """extends SceneTree
var frames = 0
func _init():
	ProjectSettings.load_resource_pack("/scratch/game.pck")
	print("LOADED ", ProjectSettings.load_resource_pack("/scratch/mod.pck", REPLACE))
func _process(_delta):
	frames += 1
	if frames == 1:
		if "TARGET".ends_with(".txt"):
			print("TEXT ", FileAccess.file_exists("TARGET"), " ", FileAccess.get_file_as_string("TARGET"))
		else:
			var r = load("TARGET")
			print("GOT ", r)
			if r is PackedScene: get_root().add_child(r.instantiate())
	if frames > 8: quit()
	return false
""",
}


def play(engine: Engine, folder: Path, files: Mapping[str, bytes], mod_pack: bytes = b"") -> str:
    """What an engine says to a game with these files, whose ``src/probe.gd`` is run. No network; HOME is scratch."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for path, data in {"project.godot": _GAME[engine.major].encode(), **files}.items():
        (scratch / "game" / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / "game" / path).write_bytes(data)
    (scratch / "mod.pck").write_bytes(mod_pack)
    # A shipped game is a pack, too: only there can another pack delete something.
    (scratch / "game.pck").write_bytes(
        pack({"res://core.txt": b"the game's own"}, format=1 if engine.major == 3 else 3)
    )
    for item in [scratch, *scratch.rglob("*")]:
        item.chmod(0o777 if item.is_dir() else 0o666)
    headless = ["--headless"] if engine.major == 4 else []
    outcome = run_tool(
        [*engine.command, *headless, "--path", "/scratch/game", "-s", "res://src/probe.gd"],
        scratch=scratch,
        ro=engine.folders,
        env={"HOME": "/scratch", "LC_ALL": "C.UTF-8"},
        limits=Limits(memory_bytes=2 << 30, cpu_seconds=60, wall_seconds=60.0, file_bytes=64 << 20),
    )
    return (outcome.stdout + outcome.stderr).decode("utf-8", "replace")


def works(attack: Attack, engine: Engine, folder: Path) -> tuple[bool, str]:
    """Whether an attack works on a game that loads it without protection, and what the engine said."""
    # Flags work even where the game asked not to replace anything.
    replace = "false" if attack.name == "pack-removal" else "true"
    files = {
        "src/global.gd": _GLOBAL[attack.engine].encode(),
        "src/probe.gd": _PROBE[attack.engine].replace("TARGET", attack.load).replace("REPLACE", replace).encode(),
    }
    said = play(engine, folder, files, attack.make()["mod.pck"])
    marked = any((folder / "scratch").rglob(MARKER))
    removed = attack.name == "pack-removal" and "TEXT false" in said
    return marked or f"TEXT true {PROVEN}" in said or f"TEXT 0 {PROVEN}" in said or removed, said


PROVABLE = [attack for attack in ATTACKS if attack.load and attack.form != "pck2"]
_FEW = {
    *("inline-script", "key-with-spaces", "method-track", "binary-as-mesh", "pack-dot-dot"),
    *("script-of-resource", "import-redirect", "track-of-game", "pack-removal"),
}


def prove(attack: Attack, folder: Path) -> None:
    worked, said = works(attack, engine_for(attack.engine), folder)
    assert worked, f"the attack does not work, so its test proves nothing:\n{said[-3000:]}"
    found = scanned(attack)
    assert found.verdict.kind is VerdictKind.REJECT
    assert any(f.code == attack.code and f.severity is Severity.ERROR for f in found.verdict.findings)


@pytest.mark.parametrize("attack", [a for a in PROVABLE if a.name in _FEW], ids=str)
def test_attacks_work_without_us_and_are_stopped(attack: Attack, tmp_path: Path, tell: Callable[[str], None]) -> None:
    prove(attack, tmp_path)
    tell("works in the engine, stopped by the scan")


@pytest.mark.slow
@pytest.mark.parametrize("attack", [a for a in PROVABLE if a.name not in _FEW], ids=str)
def test_all_provable_attacks_work_without_us(attack: Attack, tmp_path: Path) -> None:
    prove(attack, tmp_path)


_READ = {
    3: """extends SceneTree
func _init():
	ProjectSettings.load_resource_pack("/scratch/mod.pck", true)
func _idle(_delta):
	for path in [PATHS]:
		var r = load(path)
		print("READ ", path, " ", r != null)
	quit()
	return false
""",
    4: """extends SceneTree
func _init():
	ProjectSettings.load_resource_pack("/scratch/mod.pck", true)
func _process(_delta):
	for path in [PATHS]:
		var r = load(path)
		print("READ ", path, " ", r != null)
	quit()
	return false
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("major", [3, 4])
def test_harmless_mods_are_what_the_engine_reads(major: int, tmp_path: Path, tell: Callable[[str], None]) -> None:
    """A mod that no engine loads would prove nothing. (Pictures and sounds have to be imported first: not here.)"""
    engine = engine_for(major)
    read = 0
    for item in HARMLESS:
        texts = {path: data for path, data in item.files().items() if path.endswith((".tres", ".tscn"))}
        if item.engine != major or any(b"[ext_resource" in data for data in texts.values()):
            continue
        paths = [ROOT + path for path in texts]
        files = {"src/probe.gd": _READ[major].replace("PATHS", ", ".join(f'"{path}"' for path in paths)).encode()}
        said = play(engine, tmp_path, files, as_pck(texts, 1 if major == 3 else 3))
        assert [line for line in said.splitlines() if line.startswith("READ")] == [
            f"READ {p} {_TRUE[major]}" for p in paths
        ], f"{item}\n{said[-2000:]}"
        read += 1
    assert read >= 20
    tell(f"{read} harmless mods read by Godot {engine.version}")


_TRUE = {3: "True", 4: "true"}
_EVERY = {
    4: """extends SceneTree
func changed(v, p):
	match typeof(v):
		TYPE_BOOL: return not v
		TYPE_INT: return v if p.hint == PROPERTY_HINT_ENUM or p.hint == PROPERTY_HINT_FLAGS else v + 1
		TYPE_FLOAT: return v * 0.5 + 0.25
		TYPE_VECTOR2: return v + Vector2(0.25, 0.5)
		TYPE_VECTOR3: return v + Vector3(0.25, 0.5, 0.75)
		TYPE_COLOR: return Color(0.2, 0.3, 0.4)
	return v
func _init():
	for c in NAMES:
		if not ClassDB.can_instantiate(c): continue
		var o = ClassDB.instantiate(c)
		for p in o.get_property_list():
			if p.usage & PROPERTY_USAGE_STORAGE and not p.name in ["script", "resource_path", "name"]:
				o.set(p.name, changed(o.get(p.name), p))
		if o is Node:
			var root = Node.new()
			root.name = "R"
			root.add_child(o)
			o.owner = root
			var s = PackedScene.new()
			s.pack(root)
			ResourceSaver.save(s, "res://mods/oak/%s.tscn" % c)
		else:
			ResourceSaver.save(o, "res://mods/oak/%s.tres" % c)
	print("END")
	quit()
""",
}
_EVERY[3] = (
    _EVERY[4]
    .replace("can_instantiate", "can_instance")
    .replace("instantiate", "instance")
    .replace("TYPE_FLOAT", "TYPE_REAL")
    .replace(
        'ResourceSaver.save(s, "res://mods/oak/%s.tscn" % c)', 'ResourceSaver.save("res://mods/oak/%s.tscn" % c, s)'
    )
    .replace(
        'ResourceSaver.save(o, "res://mods/oak/%s.tres" % c)', 'ResourceSaver.save("res://mods/oak/%s.tres" % c, o)'
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("number", ["3.2", "3.6", "4.6"])
def test_one_of_every_allowed_class_passes_as_its_engine_saves_it(
    number: str, form: str, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """The class lists are complete: no everyday property is refused because a dump left it out."""
    engines = [e for e in list_engines(Settings()).values() if isinstance(e, Engine) and e.version.startswith(number)]
    if not engines:
        pytest.skip(f"no Godot {number}: `cloudbaker engines install godot-{number}`")
    engine = engines[0]
    policy = load_policy("shaders")
    if form == "binary":
        policy = Policy.model_validate({**policy.model_dump(mode="json"), "binary_resources": True})
    allowed = policy.for_engine(engine.short)
    names = [name for name in allowed.classes.bases if allowed.class_ban(name) is None and name != "PackedScene"]
    quoted = "[" + ", ".join(f'"{name}"' for name in names) + "]"
    probe = _EVERY[engine.major].replace("NAMES", quoted)
    if form == "binary":
        probe = probe.replace(".tscn", ".scn").replace(".tres", ".res")
    files = {"src/probe.gd": probe.encode(), "mods/oak/x.txt": b"x"}
    said = play(engine, tmp_path, files)
    assert "END" in said, said[-2000:]
    saved = {p.name: memoryview(p.read_bytes()) for p in (tmp_path / "scratch/game/mods/oak").glob("*.*s*")}
    saved["manifest.tres"] = memoryview(SYNTAX[engine.major].manifest(entry_scenes="[]"))
    found = scan(saved, policy, engine=engine.short)
    # What the probe set to something else although it is banned.
    banned = {"property.threads", "property.uri", "property.expression"}
    wrong = [f for f in found.verdict.findings if f.severity is Severity.ERROR and f.code not in banned]
    assert wrong == []
    assert len(saved) > 300
    tell(f"{len(saved):,} classes of Godot {engine.version} pass as it saves them, {form}")
