"""The notebooks run from the first cell to the last, in a kernel of their own."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path: Path, home: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    environment = os.environ | {"CLOUDBAKER_HOME": str(home), "PYTHONPATH": "", "IPYTHONDIR": str(tmp_path)}
    client = NotebookClient(
        notebook,
        timeout=180,
        resources={"metadata": {"path": str(tmp_path)}},
        kernel_name="python3",
    )
    client.execute(env=environment)
    if path.stem == "catalog":
        titles = [c.source for c in notebook.cells if c.cell_type == "markdown" and c.source.startswith("## ")]
        assert [title for title in titles if title[3].isdigit()][-1].startswith("## 10.")
        answers = [c for c in notebook.cells if c.cell_type == "code" and c.source.endswith("\nanswer")]
        assert len(answers) == 10
        assert all("text/plain" in cell.outputs[-1]["data"] for cell in answers)
        return
    bake = next(c for c in notebook.cells if c.cell_type == "code" and c.source.endswith("result"))
    html = bake.outputs[-1]["data"]["text/html"]
    assert "baked and published" in html
    assert "<table>" in html


def test_the_readme_example_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
