"""The verbs for people: each works alone, on a `Document` or a ``pygltflib.GLTF2``, and from the command line.

Around the bare step of a bake, a verb that is imported from `cloudbaker.compute.gltf`

- takes a `Document` or a `pygltflib.GLTF2` and changes it in place; what comes back says what was done;
- unpacks Draco and meshopt first, where the step works on plain geometry;
- finds out what an extension that nobody knows might point at (`prune.reserve`), and keeps that in its place;
- drops what the step has left without a user. What nobody used before stays: only `prune` takes that.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from cloudbaker.compute.gltf import VERBS
from cloudbaker.compute.gltf.decompress import decode
from cloudbaker.compute.gltf.document import Document, compression
from cloudbaker.compute.gltf.interchange import adopt, from_pygltflib
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.prune import drop_orphans, prune, reserve, unused
from cloudbaker.compute.gltf.references import DRACO
from cloudbaker.errors import UsageError

if TYPE_CHECKING:
    import pygltflib

Step = Callable[..., Any]


@functools.cache
def verb(name: str) -> Step:
    """The verb of a name in `VERBS` (see the module's docstring)."""
    step = _step(name)

    @functools.wraps(step)
    def run(model: Document | pygltflib.GLTF2, *args: Any, **kwargs: Any) -> Any:
        if isinstance(model, Document):
            return _run(name, step, model, *args, **kwargs)
        document = from_pygltflib(model)
        if any(compression(view) is not None for view in document.items("bufferViews")):
            decode(document)
        result = _run(name, step, document, *args, **kwargs)
        adopt(model, document)
        return result

    return run


def _step(name: str) -> Step:
    step: Step = getattr(importlib.import_module(f"cloudbaker.compute.gltf.{name}"), VERBS[name].function or name)
    return step


def _run(name: str, step: Step, document: Document, *args: Any, **kwargs: Any) -> Any:
    reserved = reserve(document)
    before = unused(document)
    if VERBS[name].plain and is_packed(document):
        decode(document)
    # What is reserved is found out here, and is no argument for a caller to think of.
    parameters = list(inspect.signature(step).parameters)[1:]
    open_to_all = [parameter for parameter in parameters if parameter != "reserved"]
    if len(args) > len(open_to_all):
        raise TypeError(f"{name} takes {len(open_to_all)} arguments beside the model, not {len(args)}")
    kwargs |= dict(zip(open_to_all, args, strict=False))
    if "reserved" in parameters:
        kwargs["reserved"] = reserved
    result = step(document, **kwargs)
    if reserved.pinned:
        prune(document, reserved)
    elif drop_orphans(document, before):
        # An exporter's one large view would keep all of its bytes: reorder made a model 1.45 times as large.
        pack(document)
        drop_orphans(document, before)
    return result


def is_packed(document: Document) -> bool:
    """Whether Draco or meshopt has packed anything in it."""
    primitives = (p for mesh in document.items("meshes") for p in mesh.get("primitives", ()))
    return any(DRACO in (p.get("extensions") or {}) for p in primitives) or any(
        compression(view) is not None for view in document.items("bufferViews")
    )


# -- options, for the command line and for jobs ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a verb: a parameter of its own, or a field of its options' dataclass."""

    name: str
    kind: type
    """bool, int, float or str."""
    default: Any
    choices: tuple[str, ...] = ()
    help: str = ""
    repeated: bool = False
    """A tuple of them."""


def options_of(name: str) -> list[Option]:
    """Everything that can be set on a verb."""
    step = _step(name)
    hints = get_type_hints(step)
    found: list[Option] = []
    for parameter in list(inspect.signature(step).parameters.values())[1:]:
        if parameter.name == "reserved":
            continue
        if is_dataclass(parameter.default):
            kind: Any = type(parameter.default)
            types, texts = get_type_hints(kind), _field_docs(kind)
            found += [
                _option(f.name, types[f.name], getattr(parameter.default, f.name), texts.get(f.name, ""))
                for f in fields(kind)
                if not is_dataclass(types[f.name])
            ]
        else:
            found.append(_option(parameter.name, hints[parameter.name], parameter.default, ""))
    return found


def call(name: str, document: Document, settings: Mapping[str, Any]) -> Any:
    """Run a verb with settings by name, as a command line or a job has them. Raises as `arguments` does."""
    return verb(name)(document, **arguments(name, settings))


def arguments(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a verb for settings by name. Raises `UsageError` on unknown or impossible ones."""
    known = {option.name: option for option in options_of(name)}
    if strange := sorted(set(settings) - known.keys()):
        raise UsageError(f"{name} has no option {', '.join(strange)}: it has {', '.join(known) or 'none'}")
    given = {key: tuple(value) if known[key].repeated else value for key, value in settings.items()}
    found: dict[str, Any] = {}
    for parameter in list(inspect.signature(_step(name)).parameters.values())[1:]:
        if parameter.name != "reserved" and is_dataclass(parameter.default):
            kind: Any = type(parameter.default)
            wanted = {f.name: given[f.name] for f in fields(kind) if f.name in given}
            try:
                found[parameter.name] = kind(**{**_values(parameter.default), **wanted})
            except ValueError as error:
                raise UsageError(f"{name}: {error}") from error
        elif parameter.name in given:
            found[parameter.name] = given[parameter.name]
    return found


def _values(options: Any) -> dict[str, Any]:
    return {f.name: getattr(options, f.name) for f in fields(options)}


def _option(name: str, kind: Any, default: Any, text: str) -> Option:
    repeated = getattr(kind, "__origin__", None) in (tuple, list, frozenset)
    if repeated:
        kind = get_args(kind)[0]
    literals = get_args(kind)
    if literals and all(isinstance(value, str) for value in literals):
        return Option(name, str, default, literals, text, repeated)
    plain = next((k for k in (bool, int, float, str) if k is kind or k in literals), str)
    return Option(name, plain, default, (), text, repeated)


def _field_docs(kind: type) -> dict[str, str]:
    """The docstrings under the fields of a dataclass, as one line each."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            text = getattr(after.value, "value", None)
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found
