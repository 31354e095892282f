"""The report of a bake for people: Markdown for the Prefect UI, HTML for notebooks. Both say the same."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from cloudbaker.model import Finding, RunState, Severity
from cloudbaker.tasks.result import BakeResult, worst_first

SIZE_COLUMNS = ("file", "triangles", "bytes", "of source", "mean error", "max error", "from distance")

_HEADLINES = {
    RunState.COMPLETED: "baked and published",
    RunState.UNCHANGED: "unchanged: this version was already baked under the same bake key",
    RunState.REJECTED: "rejected: the content did not pass validation",
    RunState.FAILED: "failed; nothing was published",
    RunState.CANCELLED: "cancelled; nothing was published",
    RunState.RUNNING: "still running",
}


def headline(result: BakeResult) -> str:
    """One sentence: what became of which asset."""
    version = f"@{result.version.number}" if result.version else ""
    return f"{result.asset}{version} {_HEADLINES[result.state]}"


def human_bytes(count: float) -> str:
    """``1234567`` → ``1.2 MB`` (powers of 1000, as file managers and networks count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def size_rows(result: BakeResult) -> list[tuple[str, ...]]:
    """The table of sizes as text, under `SIZE_COLUMNS`; the first row is the source."""
    if result.version is None:
        return []
    metrics = result.version.metrics
    triangles = metrics.get("source_triangles")
    source = (
        "source",
        f"{int(triangles):,}" if triangles else "–",
        human_bytes(result.source_bytes),
        "100 %",
        "",
        "",
        "",
    )
    return [
        source,
        *(
            (
                row["file"],
                f"{row['triangles']:,}" if row["triangles"] else "–",
                human_bytes(row["bytes"]),
                f"{100 * row['of_source']:.1f} %",
                f"{row['error_mean_percent']:.4f} %" if row["triangles"] else "–",
                f"{row['error_max_percent']:.3f} %" if row["triangles"] else "–",
                f"{row['suggested_distance']:.2f}" if row["suggested_distance"] else "–",
            )
            for row in result.sizes()
        ),
    ]


def picture_note(result: BakeResult) -> str:
    """What the pictures show, or why there are none."""
    if result.pictures and result.version is not None:
        difference = result.version.metrics.get("preview_difference_percent")
        return f"mean picture difference {difference:.3f} %" if difference is not None else ""
    for finding in result.findings:
        if finding.code == "preview.unavailable":
            return f"no pictures: {finding.message}"
    return "no pictures were asked for" if result.ok else ""


def loss_lines(result: BakeResult) -> list[str]:
    """What was lost, one line each; says so when nothing was."""
    if result.version is None:
        return []
    return [f"{loss.kind} {loss.place}: {loss.detail}" for loss in result.losses] or ["nothing was lost"]


def finding_line(finding: Finding) -> str:
    """One finding with its place and remedy."""
    place = f" at {finding.place}" if finding.place else ""
    remedy = f" ({finding.remedy})" if finding.remedy else ""
    return f"{finding.severity.value} {finding.code}{place}: {finding.message}{remedy}"


def finding_lines(findings: Iterable[Finding], *, most: int = 20) -> list[str]:
    """Findings for people, the worst first; those that differ in place alone are one line."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in worst_first(tuple(findings)):
        groups.setdefault((finding.code, finding.message), []).append(finding)
    lines = [
        finding_line(first) + (f" (and at {len(more)} more places)" if more else "") for first, *more in groups.values()
    ]
    return lines[:most] + ([f"… and {len(lines) - most} more kinds (see --json)"] if len(lines) > most else [])


def markdown(result: BakeResult, *, pictures: bool = True) -> str:
    """The report for the Prefect UI. Text from the content is put in code spans: it can't become markup."""
    parts = [f"# {_code(str(result.asset))} {_HEADLINES[result.state]}", ""]
    parts += [f"Recipe `{result.recipe}`, mode `{result.mode}`, {result.seconds:.1f} s, run `{result.run_id}`."]
    if result.version is not None:
        parts += [f"Version **{result.version.number}**, bake key `{result.version.bake_key[:16]}…`.", ""]
        parts += ["| " + " | ".join(SIZE_COLUMNS) + " |", "|" + "---|" * len(SIZE_COLUMNS)]
        parts += ["| " + " | ".join(row) + " |" for row in size_rows(result)]
        parts += ["", "## Before and after", ""]
        if pictures and result.pictures:
            names = sorted(result.pictures, reverse=True)
            parts += ["| " + " | ".join(name.removesuffix(".png") for name in names) + " |", "|---" * len(names) + "|"]
            parts += ["| " + " | ".join(f"![{name}]({result.picture_uri(name)})" for name in names) + " |", ""]
        parts += [picture_note(result), "", "## Lost", ""]
        parts += [f"- {_code(line)}" if result.losses else f"- {line}" for line in loss_lines(result)]
    if result.error:
        parts += ["", f"**{result.error.get('code', '')}** {_code(str(result.error.get('message', '')))}"]
    shown = [f for f in worst_first(result.findings) if f.code != "preview.unavailable"]
    parts += ["", f"## Findings ({len(shown)})", ""]
    parts += [f"- {_code(line)}" for line in finding_lines(shown, most=50)] or ["- none"]
    return "\n".join(parts)


def html(result: BakeResult) -> str:
    """The report for a notebook."""
    color = "#1a7f37" if result.ok else "#b42318"
    parts = [f'<div><b style="color:{color}">{escape(headline(result))}</b> in {result.seconds:.1f} s']
    parts += [
        f'<img src="{result.picture_uri(name)}" alt="{name}" title="{name}" style="width:240px;display:inline-block">'
        for name in sorted(result.pictures, reverse=True)
    ]
    rows = size_rows(result)
    if rows:
        parts.append(_table([SIZE_COLUMNS, *rows]))
    lines: list[Any] = [picture_note(result)]
    lines += ["lost: " + line for line in loss_lines(result)]
    lines += finding_lines(f for f in result.findings if f.severity is not Severity.INFO)
    if result.error:
        lines.append(f"{result.error.get('code', '')}: {result.error.get('message', '')}")
    parts.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines if line) + "</ul></div>")
    return "".join(parts)


def _table(rows: list[tuple[str, ...]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{escape(c)}</th>" for c in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in body)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"
