"""What the tests of the optimize stage share: the official validator, and models by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import ToolMissing


@pytest.fixture(scope="session")
def khronos() -> Callable[[Sequence[bytes]], list[str]]:
    """Errors of the official validator over several GLBs, as text."""
    try:
        script = validator_js().read_text("utf-8")
    except ToolMissing as error:
        pytest.skip(str(error))

    def errors(glbs: Sequence[bytes]) -> list[str]:
        reports = validate_all(glbs, validator_js=script)
        return [
            f"{number}: {finding.code} {finding.place} {finding.message}"
            for number, report in enumerate(reports)
            for finding in report.findings
            if finding.severity == "error"
        ]

    return errors
