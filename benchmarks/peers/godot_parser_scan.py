"""What a check on top of PyPI's godot_parser can do. Runs in an environment of its own, see benchmarks/godot_scan.py.

Reads lines of ``name<TAB>path`` on standard input; prints one JSON object: name → [seconds, found, error].
"""

import json
import sys
import time

import godot_parser

BAD_TYPES = {
    "GDScript",
    "VisualScript",
    "CSharpScript",
    "NativeScript",
    "HTTPRequest",
    "GDExtension",
    "GDNativeLibrary",
}


def check(path):
    """Whether a file has a script, a network node or a connection, as far as the parser shows it."""
    file = godot_parser.load(path)
    for section in file.get_sections():
        header = section.header
        kind = header.attributes.get("type")
        if kind in BAD_TYPES or header.name == "connection":
            return True
        target = str(header.attributes.get("path", ""))
        if header.name == "ext_resource" and (kind == "Script" or not target.startswith("res://mods/oak/")):
            return True
        if "script" in section.properties:
            return True
    return False


results = {}
for line in sys.stdin:
    name, path = line.rstrip("\n").split("\t")
    start = time.process_time()
    try:
        found, error = check(path), ""
    except RecursionError:
        found, error = False, "RecursionError"
    except Exception as problem:  # whatever it raises is part of the result
        found, error = False, type(problem).__name__
    results[name] = [time.process_time() - start, found, error]
print(json.dumps(results))
