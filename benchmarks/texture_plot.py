"""Speed against quality as a small SVG: one chart per picture, drawn by hand, because matplotlib is no dependency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT, COLUMNS = 420, 300, 2
LEFT, TOP, RIGHT, BOTTOM = 46, 30, 14, 36
COLOURS = ("#d62728", "#1f77b4", "#7f7f7f", "#2ca02c", "#9467bd", "#8c564b")
"""By family, in the order they come; ours is the first."""


@dataclass(frozen=True)
class Mark:
    """A point of the plot; points of one family are joined by a line."""

    family: str
    label: str
    speed: float
    """MPix per CPU second; on a logarithmic axis, to the right."""
    quality: float
    """dB; to the top."""


def plot(charts: Mapping[str, Sequence[Mark]]) -> str:
    """An SVG of all charts, two in a row, with a legend below."""
    families = list(dict.fromkeys(mark.family for marks in charts.values() for mark in marks))
    colours = {family: COLOURS[index % len(COLOURS)] for index, family in enumerate(families)}
    rows = math.ceil(len(charts) / COLUMNS)
    size = (WIDTH * COLUMNS, HEIGHT * rows + 30)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" '
        f'font-size="10"><rect width="{size[0]}" height="{size[1]}" fill="#fff"/>'
    ]
    for index, (name, marks) in enumerate(charts.items()):
        x, y = index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_chart(name, marks, colours)}</g>')
    for index, (family, colour) in enumerate(colours.items()):
        x, y = 20 + index * 140, HEIGHT * rows + 18
        parts.append(
            f'<circle cx="{x}" cy="{y - 3}" r="4" fill="{colour}"/><text x="{x + 8}" y="{y}">{escape(family)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _chart(name: str, marks: Sequence[Mark], colours: Mapping[str, str]) -> str:
    logs = [math.log10(mark.speed) for mark in marks]
    x_low, x_high = math.floor(min(logs) * 2) / 2, math.ceil(max(logs) * 2 + 1e-9) / 2
    y_low = math.floor(min(m.quality for m in marks) / 2 - 0.1) * 2
    y_high = math.ceil(max(m.quality for m in marks) / 2 + 0.1) * 2

    def at(mark: Mark) -> tuple[float, float]:
        return _x(math.log10(mark.speed), x_low, x_high), _y(mark.quality, y_low, y_high)

    out = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(name)}</text>']
    for half in range(round(x_low * 2), round(x_high * 2) + 1):
        x = _x(half / 2, x_low, x_high)
        out.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        if half % 2 == 0:
            out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 12}" text-anchor="middle">{10 ** (half / 2):g}</text>')
    step = 2 if y_high - y_low <= 16 else 5
    for value in range(math.ceil(y_low / step) * step, y_high + 1, step):
        y = _y(value, y_low, y_high)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{value}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">MPix per CPU second</text>')
    out.append(f'<text transform="translate(12 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">PSNR, dB</text>')
    for family, colour in colours.items():
        line = sorted((mark for mark in marks if mark.family == family), key=lambda mark: mark.speed)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-opacity="0.6"/>')
        for mark in line:
            x, y = at(mark)
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            out.append(
                f'<text x="{x + 4:.1f}" y="{y - 4:.1f}" font-size="8" fill="{colour}">{escape(mark.label)}</text>'
            )
    return "".join(out)


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
