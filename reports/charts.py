"""Small charts as inline SVG: drawn here, so that a page needs no script to show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.words import shown_key, text

_WIDE, _HIGH = 520, 190
_LEFT, _TOP, _BOTTOM = 8, 26, 30
_LONG_NAME = 34


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and the numbers it is drawn from.

    Attributes:
        svg: the drawing.
        rows: label and value as they are shown.
        head: what the two columns are.
        note: how to read it, in a sentence.
    """

    title: str
    svg: Markup
    rows: tuple[tuple[str, str], ...]
    head: tuple[str, str]
    note: str = ""


def columns(
    title: str,
    values: Sequence[tuple[str, float, str]],
    *,
    head: tuple[str, str],
    lines: Sequence[tuple[float, str]] = (),
    kinds: Sequence[str] = (),
    note: str = "",
) -> Chart:
    """Upright bars, side by side.

    Args:
        title: what is shown.
        values: label, value, and the value in words.
        head: names of the two columns.
        lines: upright lines at a place of 0..1 of the width, with a label: thresholds.
        kinds: a class for each bar.
        note: how to read it.
    """
    most = max((value for _, value, _ in values), default=0) or 1
    step = (_WIDE - 2 * _LEFT) / max(len(values), 12)  # few bars stay bars
    room = _HIGH - _TOP - _BOTTOM
    every = max(1, -(-len(values) * 52 // (_WIDE - 2 * _LEFT)))
    drawn = []
    for at, (label, value, words) in enumerate(values):
        high = max(1.5, room * value / most) if value else 0
        x, y = _LEFT + at * step, _HIGH - _BOTTOM - high
        kind = kinds[at] if kinds else "bar"
        drawn.append(
            f'<rect class="{kind}" x="{x + step * 0.08:.1f}" y="{y:.1f}" '
            f'width="{step * 0.84:.1f}" height="{high:.1f}" rx="1.5">'
            f"<title>{_text(label)}: {_text(words)}</title></rect>"
        )
        if at % every == 0:
            drawn.append(_label(x + step / 2, _HIGH - 12, label, "middle"))
    for at, (place, name) in enumerate(lines):
        x = _LEFT + place * (_WIDE - 2 * _LEFT)
        anchor = "end" if place > 0.85 else "start"
        drawn.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 14}" '
            f'y2="{_HIGH - _BOTTOM}"/>'
        )
        drawn.append(
            _label(
                x + (-4 if anchor == "end" else 4),
                _TOP - 6 + 12 * (at % 2),
                name,
                anchor,
                "markname",
            )
        )
    drawn.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDE - _LEFT}" y1="{_HIGH - _BOTTOM}" '
        f'y2="{_HIGH - _BOTTOM}"/>'
    )
    rows = tuple((shown_key(label), words) for label, _, words in values)
    return Chart(title, _svg(title, rows, _HIGH, drawn), rows, head, note)


def bars(
    title: str, values: Sequence[tuple[str, float, str]], *, head: tuple[str, str], note: str = ""
) -> Chart:
    """Lying bars with their names, the longest first as given."""
    most = max((value for _, value, _ in values), default=0) or 1
    high = 30
    drawn = []
    for at, (label, value, words) in enumerate(values):
        y = at * high
        name = shown_key(label)
        short = name if len(name) <= _LONG_NAME else "…" + name[-_LONG_NAME:]
        drawn.append(_label(_LEFT, y + 11, short, "start", "name"))
        drawn.append(_label(_WIDE - _LEFT, y + 11, words, "end", "value"))
        drawn.append(
            f'<rect class="bar" x="{_LEFT}" y="{y + 15}" height="8" rx="2" '
            f'width="{max(2.0, (_WIDE - 2 * _LEFT) * value / most):.1f}">'
            f"<title>{_text(name)}: {_text(words)}</title></rect>"
        )
    rows = tuple((shown_key(label), words) for label, _, words in values)
    return Chart(title, _svg(title, rows, max(1, len(values)) * high, drawn), rows, head, note)


def _svg(title: str, rows: Sequence[tuple[str, str]], high: int, drawn: Sequence[str]) -> Markup:
    said = "; ".join(f"{label}: {words}" for label, words in rows[:12])
    more = text("chart.more", number=len(rows) - 12) if len(rows) > 12 else ""
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<svg class="chart" viewBox="0 0 {_WIDE} {high}" role="img" '
        f'aria-label="{_text(title)}. {_text(said)}{more}">{"".join(drawn)}</svg>'
    )


def _label(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_text(text)}</text>'
    )


def _text(text: str) -> str:
    return str(escape(shown_key(text)))
