"""What is signed: an in-toto v1 Statement with an SLSA v1 provenance predicate, as canonical JSON.

It names every file of the package by SHA-256 and says how they came to be: sources, recipe, tools, isolation, builder,
run and times. Field names are those of the specifications (in-toto attestation v1 ``Statement`` and
``ResourceDescriptor``; SLSA v1.0 ``Provenance``). What `buildType` means is written in docs/signing.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cloudbaker
from cloudbaker.compute.signing.dsse import IN_TOTO, loads_strict
from cloudbaker.errors import SignatureInvalid
from cloudbaker.model import AssetRef, Source

PAYLOAD_TYPE = IN_TOTO
"""DSSE payload type of a statement."""
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:cloudbaker:bake:v1"
BUILDER_ID = "urn:cloudbaker:builder:v1"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, read back."""

    subjects: Mapping[str, str]
    """File name to hex SHA-256."""
    predicate: Mapping[str, Any]
    """The SLSA provenance as it stands."""

    @property
    def asset(self) -> str:
        """``tenant/project/name``."""
        return _dig(self.predicate, "buildDefinition", "externalParameters", "asset")

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return _dig(self.predicate, "buildDefinition", "externalParameters", "recipe", "name")

    @property
    def recipe_hash(self) -> str:
        """Hex SHA-256 of the recipe."""
        return _dig(self.predicate, "buildDefinition", "externalParameters", "recipe", "sha256")

    @property
    def bake_key(self) -> str:
        """Hex bake key."""
        return _dig(self.predicate, "buildDefinition", "internalParameters", "bakeKey")

    @property
    def isolation(self) -> str:
        """What held the work on untrusted bytes."""
        return _dig(self.predicate, "buildDefinition", "internalParameters", "isolation")

    @property
    def run_id(self) -> str:
        """The run that made the package."""
        return _dig(self.predicate, "runDetails", "metadata", "invocationId")

    @property
    def finished_on(self) -> str:
        """When the run finished, RFC 3339."""
        return _dig(self.predicate, "runDetails", "metadata", "finishedOn")


def build_statement(
    *,
    files: Mapping[str, bytes],
    asset: AssetRef,
    recipe: str,
    recipe_hash: str,
    bake_key: str,
    sources: Sequence[Source],
    tools: Mapping[str, str],
    isolation: str,
    run_id: str,
    started_at: datetime,
    finished_at: datetime,
    engine: str | None = None,
) -> dict[str, Any]:
    """A statement about `files` (the whole package by file name), ready for `canonical_json` and `dsse.sign`.

    `tools` is what went into the bake key; `isolation` what held the work on untrusted bytes (``landlock+seccomp``,
    ``outer:gvisor``, ``trusted``). Raises ValueError without a file, or for a time without zone.
    """
    if not files:
        raise ValueError("a statement needs at least one file")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": hashlib.sha256(files[name]).hexdigest()}} for name in sorted(files)
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"asset": str(asset), "recipe": {"name": recipe, "sha256": recipe_hash}},
                "internalParameters": {
                    "bakeKey": bake_key,
                    "engine": engine,
                    "isolation": isolation,
                    "tools": dict(tools),
                },
                "resolvedDependencies": [
                    {"name": s.name, "digest": {"sha256": s.blob.sha256}, "mediaType": s.media_type} for s in sources
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER_ID, "version": {"cloudbaker": cloudbaker.__version__}},
                "metadata": {
                    "invocationId": run_id,
                    "startedOn": _time(started_at),
                    "finishedOn": _time(finished_at),
                },
            },
        },
    }


def parse_statement(payload: bytes) -> Statement:
    """Read a statement. Raises `SignatureInvalid` where it is none of ours: call it on a verified payload only."""
    try:
        data = loads_strict(payload)
        if data["_type"] != STATEMENT_TYPE or data["predicateType"] != PREDICATE_TYPE:
            raise ValueError("it is no in-toto v1 statement with SLSA v1 provenance")
        if data["predicate"]["buildDefinition"]["buildType"] != BUILD_TYPE:
            raise ValueError("its build type is not a Cloud Baker bake")
        subjects = {s["name"]: s["digest"]["sha256"] for s in data["subject"]}
        if len(subjects) != len(data["subject"]) or not subjects:
            raise ValueError("a subject occurs twice, or there is none")
        if not all(isinstance(n, str) and isinstance(d, str) and _SHA256.fullmatch(d) for n, d in subjects.items()):
            raise ValueError("a subject has no hex SHA-256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if type(error) is ValueError else "a field is missing or of the wrong type"
        raise SignatureInvalid(
            f"the signed statement can't be used: {reason}. Verify it with the tool that made it"
        ) from None
    return Statement(subjects, data["predicate"])


def _time(moment: datetime) -> str:
    """RFC 3339 in UTC with ``Z``, as SLSA asks. A time without zone is refused: it would be a guess."""
    if moment.tzinfo is None:
        raise ValueError("times of a statement need a zone: use datetime.now(UTC)")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dig(value: Any, *path: str) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""
