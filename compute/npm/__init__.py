"""The npm packages that Cloud Baker runs (the Khronos validator, three.js), as ``cloudbaker setup`` installed them."""

from __future__ import annotations

from pathlib import Path

from cloudbaker.errors import ToolMissing
from cloudbaker.settings import settings


def npm_file(relative: str) -> Path:
    """Path of a file below ``node_modules``, such as ``gltf-validator/gltf_validator.dart.js``.

    Raises `ToolMissing` where it is not installed. It is read by the caller, outside the sandbox, and handed to a job
    as an input: the job's own user may not be allowed to read the installation.
    """
    path = settings().npm_prefix / "node_modules" / relative
    if not path.is_file():
        raise ToolMissing(
            f"{relative} is not installed: run `cloudbaker setup`", tool=relative.split("/", 1)[0], path=str(path)
        )
    return path


def validator_js() -> Path:
    """The official glTF validator, one JavaScript file: the input ``validator.js`` of the validation jobs."""
    return npm_file("gltf-validator/gltf_validator.dart.js")
