"""Every reason for which the scan refuses or remarks on a mod: code, severity, meaning and remedy, in one table.

Reasons for which a pack or a resource can't be *read* are in `cloudbaker.compute.godot.findings`, those of models and
archives in `cloudbaker.compute.gltf.findings`. Codes are stable. ``docs/godot.md`` shows the table.
"""

from __future__ import annotations

from cloudbaker.compute.gltf.findings import RULES as MODEL_RULES
from cloudbaker.compute.gltf.findings import Findings, Rule, printable
from cloudbaker.compute.godot.findings import RULES as READING_RULES
from cloudbaker.model import Finding, Severity

_SCRIPT = "remove it: mods hold no behaviour; what the mod needs to do, the game has to offer"
_NODE = "use a node that only shows or plays something"
_INSIDE = "keep everything under res://mods/<id>/ and refer to nothing else"
_EDITOR = "save the file with the engine's editor"
_POLICY = "remove it, or ask the game's operator to allow it in the policy"
_MEDIA = "export the file again"
_MANIFEST = "see docs/godot.md for the manifest's fields"

RULES: dict[str, Rule] = {
    # --- what was handed in
    "mod.unknown-form": Rule("it is no .pck, no .zip and no folder of a mod", "hand in a .pck, a .zip or a folder"),
    "mod.no-manifest": Rule("there is no manifest.tres", "add mods/<id>/manifest.tres, see docs/godot.md"),
    "mod.several": Rule("there are several manifests", "hand in one mod at a time"),
    "mod.empty": Rule("the mod has no files but its manifest", "add the mod's content", Severity.WARNING),
    "mod.too-large": Rule("the files pass the limit", "make them smaller, or raise the limit in the policy"),
    "mod.too-many-files": Rule("there are more files than the limit", "pack fewer files"),
    "mod.link": Rule("an entry is a link, a device or a pipe", "put the file itself there"),
    # --- paths
    "path.outside": Rule("a file lies outside res://mods/<id>/", _INSIDE),
    "path.addons": Rule("a file lies in addons/, where the engine looks for plug-ins that run code", _INSIDE),
    "path.src": Rule("a file lies in src/, where the game keeps its own code", _INSIDE),
    "path.name": Rule("a name is one that engines or file systems read in different ways", "rename the file"),
    "path.duplicate": Rule("two names differ only by case or Unicode form", "rename one of them"),
    # --- files
    "file.script": Rule("a script, by its name or its content", _SCRIPT),
    "file.native": Rule("a native library or program, by its name or its content", _SCRIPT),
    "file.project": Rule("a file that configures the engine or the game", "remove it: a mod is content only"),
    "file.imported": Rule("a file that the engine's importer makes", "hand in the sources: Cloud Baker imports them"),
    "file.pack": Rule("a pack or archive inside the mod", "unpack it and hand in the files"),
    "file.extension": Rule("the policy allows no file of this extension", "remove it, or convert it to an allowed one"),
    "file.content": Rule("the bytes are not what the name says", _MEDIA),
    "file.appended": Rule("something is appended to, or hidden in, a media file", _MEDIA),
    "file.binary-resource": Rule("a binary resource, which the policy does not allow", "save it as .tres or .tscn"),
    "file.buffer": Rule("a .bin that no .gltf refers to", "remove it, or hand in a .glb"),
    "file.too-large": Rule("a file passes the limit", "make it smaller, or raise the limit in the policy"),
    "file.empty": Rule("a file has no bytes", "remove it, or upload it again"),
    "image.too-large": Rule("an image has more pixels than the policy allows", "scale it down"),
    "image.invalid": Rule("an image's header is damaged", _MEDIA),
    "audio.invalid": Rule("a sound's header is damaged", _MEDIA),
    # --- scripts and native code in resources
    "script.property": Rule("a script is attached", _SCRIPT),
    "script.class": Rule("a class that runs code", _SCRIPT),
    "script.source": Rule("a resource refers to a script", _SCRIPT),
    "script.global-class": Rule("a resource is of a class that a script defines", _SCRIPT),
    "native.class": Rule("a class that loads native code", _SCRIPT),
    "native.source": Rule("a resource refers to a native library", _SCRIPT),
    "value.object": Rule("Object(): makes any object while the file is read, and runs its setters", _SCRIPT),
    "value.resource": Rule("Resource(): loads a file by its path from within a value", "use ExtResource"),
    "value.callable": Rule("a Callable, Signal or RID: a handle on something outside the file", _SCRIPT),
    "value.constructor": Rule("a constructor that the scan does not know", _EDITOR),
    # --- classes and properties
    "class.unknown": Rule("no such Resource or Node class in the engine", "check the engine version of the mod"),
    "class.kind": Rule("a node where a resource must be, or the reverse", _EDITOR),
    "class.network": Rule("a class that speaks to the network", _NODE),
    "class.system": Rule("a class that reaches the user's system", _NODE),
    "class.tool": Rule("a class of the editor or the importer", _NODE),
    "class.gpu": Rule("a class that hands raw data to the graphics driver", _NODE),
    "class.global": Rule("a class that changes what the whole game shares", _NODE),
    "class.calls": Rule("a class that calls methods", _NODE),
    "class.strict": Rule("a class that the strict policy does not allow", _POLICY),
    "property.unknown": Rule("the class has no such property", "check the engine version of the mod"),
    "property.too-large": Rule("a number asks for more memory or time than the policy allows", "make it smaller"),
    "property.path": Rule("a property that names where a resource lives", "remove it"),
    "property.identity": Rule("a property that says who owns a node", "remove it"),
    "property.expression": Rule("a property that holds code", "use a condition (advance_condition) instead"),
    "property.uri": Rule("a property that opens a URI", "remove it"),
    "property.threads": Rule("a property that moves work to threads", "remove it"),
    "property.game": Rule("a property of a game's node, whose setter is the game's own code", _POLICY),
    # --- references
    "ref.outside": Rule("a path leads outside the mod", _INSIDE),
    "ref.not-plain": Rule("a path is written so that engines resolve it in different ways", "write res://mods/<id>/…"),
    "ref.missing": Rule("a path leads to a file that is not there", "add the file, or correct the path"),
    "ref.unknown": Rule("a reference to a resource that the file does not list", _EDITOR),
    "ref.uid": Rule("a UID: it overrides the path beside it", 'save without UIDs, or allow `uids = "strip"`'),
    "ref.uid-stripped": Rule("a UID, which is removed before the bake", "nothing to do", Severity.INFO),
    # --- scenes
    "scene.connection": Rule("a signal is connected: it calls a method", "remove the connection"),
    "scene.placeholder": Rule("an instance placeholder loads a scene by its path", "instance the scene directly"),
    "scene.instance": Rule("a node is an instance of something that is no scene of the mod", _INSIDE),
    "scene.attribute": Rule("a node has an attribute that the scan does not know", _EDITOR),
    "scene.parent": Rule("a node's parent leads outside the scene, or is missing", _EDITOR),
    "scene.game-child": Rule("a node is put into, or changed in, a scene of the game", "place it beside the instance"),
    "scene.too-many-nodes": Rule("a scene has too many nodes, its instances included", "make the scene smaller"),
    "scene.too-deep": Rule("nodes are nested too deeply", "flatten the tree"),
    "scene.cycle": Rule("a scene instances itself", "remove the instance"),
    "scene.root": Rule("the root acts on the node that the game puts it under", "put it below a plain root"),
    "scene.no-root": Rule("a scene has no root, or several", _EDITOR),
    "node-path.absolute": Rule("a node path begins at the root of the game", "use a path relative to the node"),
    "node-path.outside": Rule("a node path leaves the mod's scene", "use a path within the scene"),
    # --- animations
    "animation.method": Rule("a method track calls a method", "remove the track"),
    "animation.track": Rule("a track of a kind that the policy does not allow", "remove the track"),
    "animation.property": Rule("a track sets a property that no allowed node has", "remove the track"),
    "animation.root": Rule("an animation player is the scene's root and acts on its parent", "put it below the root"),
    # --- shaders
    "shader.forbidden": Rule("a shader, which the policy does not allow", "use a standard material"),
    "shader.too-large": Rule("a shader's code is too long", "shorten it"),
    "shader.loop": Rule("a loop whose end the scan can't prove", "write for (int i = 0; i < 16; i++)"),
    "shader.iterations": Rule("a shader's loops run too often", "use fewer or shorter loops"),
    "shader.include": Rule("a shader includes or defines what the scan can't follow", "write the code out"),
    # --- manifest
    "manifest.invalid": Rule("the manifest is no plain Resource", _MANIFEST),
    "manifest.field": Rule("a field is missing, unknown or of the wrong type", _MANIFEST),
    "manifest.id": Rule("the id is not allowed, or is not the folder's name", "use 2 to 64 of a-z, 0-9, _ and -"),
    "manifest.version": Rule("a version is no semantic version", "write 1.2.3"),
    "manifest.engine": Rule("the engine is outside the range that the mod supports", "widen engine/min and engine/max"),
    "manifest.entry": Rule("an entry scene is not in the mod", "name a .tscn of the mod"),
    "manifest.dependency": Rule("a dependency or conflict can't be read", 'write "other_mod >=1.2 <2"'),
}


class ScanFindings(Findings):
    """Collects findings of all tables."""

    def add(self, code: str, place: str, message: str, *, remedy: str = "") -> None:
        """Note a finding of any of the tables. `place` is ``path:12`` or ``path@0x40``."""
        rule = RULES.get(code) or READING_RULES.get(code) or MODEL_RULES.get(code) or Rule(code, _POLICY)
        self.append(Finding(code, rule.severity, printable(place), printable(message), remedy or rule.remedy))


def rules_table() -> str:
    """The table of the scan's codes as Markdown, as ``docs/godot.md`` has it."""
    rows = [f"| `{code}` | {rule.severity.value} | {rule.meaning} | {rule.remedy} |" for code, rule in RULES.items()]
    return "\n".join(["| code | severity | meaning | remedy |", "|---|---|---|---|", *rows])
