"""The time that boots took, as a table for a terminal and as a picture."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from kiln.report.phases import Course, Name

PHASES: tuple[Name, ...] = get_args(Name)
_BLOCKS: dict[Name, str] = {"firmware": "░", "loader": "▒", "kernel": "▓", "initramfs": "▚", "userspace": "█"}
_WIDTH = 48
_SHOWN = 5
# Shorter ones explain nothing.
_SHORTEST = 0.02
_CHARACTERS = 100
_STYLE = """
svg { --paper: #fff; --ink: #1c2024; --quiet: #667079; --grid: #dfe3e7; --firmware: #8b97a4; --loader: #b3650b;
  --kernel: #2f6fb5; --initramfs: #8450b0; --userspace: #2f7d46; background: var(--paper) }
@media (prefers-color-scheme: dark) { svg { --paper: #16191d; --ink: #e8eaed; --quiet: #9aa4ae; --grid: #343a41;
  --firmware: #76818c; --loader: #d18a33; --kernel: #4d8fd6; --initramfs: #a777d0; --userspace: #4f9f69 } }
text { font: 13px "DejaVu Sans", Verdana, sans-serif; fill: var(--ink) }
.quiet { fill: var(--quiet) } .title { font-weight: bold } .small { font-size: 11px }
.end { text-anchor: end } .middle { text-anchor: middle }
.inside { fill: var(--paper); font-size: 11px; text-anchor: middle } line { stroke: var(--grid) }
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A boot by its ``name``; it is compared with that of ``against``, where there is such a one."""

    name: str
    course: Course
    against: "Row | None" = None


def render(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each boot with its phases in seconds, and below it how it differs; one alone is told in detail."""
    for line in _table(rows) if len(rows) > 1 else _details(rows[0]):
        yield printable(line)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    shown = _phases(rows)
    width = max(len(row.name) for row in rows)
    longest = max(row.course.end for row in rows)
    heads = "".join(f"{name:>11}" for name in (*shown, "total"))
    yield f"{'':<{width}}{heads}"
    for row in rows:
        course, other = row.course, row.against
        cells = [_cell(course, name) for name in shown]
        total = f"{course.end:.2f}{'' if course.ready else '!'}"
        bar = _bar(course, longest, 24)
        yield f"{row.name:<{width}}" + "".join(f"{cell:>11}" for cell in (*cells, total)) + f"  {bar}".rstrip()
        if other:
            changes = [_change(other.course, course, name) for name in shown]
            changes.append(f"{course.end - other.course.end:+.2f}")
            yield f"{'':<{width}}" + "".join(f"{change:>11}" for change in changes) + f"  to {other.name}"
    yield from _notes(rows)


def _details(row: Row) -> Iterator[str]:
    course = row.course
    yield f"{row.name}: {course.end:.2f} s"
    for phase in course.phases:
        before = round(phase.start / course.end * _WIDTH) if course.end else 0
        after = round(phase.end / course.end * _WIDTH) if course.end else 0
        bar = " " * before + _BLOCKS[phase.name] * max(1, after - before)
        share = phase.seconds / course.end if course.end else 1.0
        yield f"  {phase.name:<10}{_cell(course, phase.name):>8} s {share:>4.0%}  {bar}"
    if course.unpacking is not None:
        yield f"  unpacking the initramfs took {course.unpacking:.2f} s, while the kernel went on where it could"
    if course.initcalls:
        yield "slowest parts of the kernel's start"
        for part in course.initcalls[:_SHOWN]:
            yield f"{part.seconds:>10.3f} s  {part.name}"
    gaps = [gap for gap in course.gaps[:_SHOWN] if gap.seconds >= _SHORTEST]
    if gaps:
        yield "longest times without a word"
    for gap in gaps:
        yield f"{gap.seconds:>10.3f} s  after   {_shortened(gap.before) or '(the machine was switched on)'}"
        yield f"{'':>12}  before  {_shortened(gap.after)}"
    yield from _notes([row])


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    if any(row.course.quiet for row in rows):
        yield "* with all that came after it: the kernel was told to be quiet, so its log does not say when it was done"
    for row in rows:
        if not row.course.ready:
            phase = row.course.phases[-1].name
            yield f"! {row.name} did not come to its end; it stopped in its {phase}: {_shortened(row.course.last)}"


def svg(title: str, rows: Sequence[Row]) -> str:
    """A picture of its own: a bar for each boot, and for one alone the longest times without a word."""
    longest = max((row.course.end for row in rows), default=0.0) or 1.0
    left, right = 24 + 8 * max(len(row.name) for row in rows), 900
    scale = (right - left - 70) / longest
    gaps = [gap for gap in rows[0].course.gaps[:_SHOWN] if gap.seconds >= _SHORTEST] if len(rows) == 1 else []
    bottom = 84 + 34 * len(rows)
    notes = [printable(line) for line in _notes(rows)]
    height = bottom + 34 + 34 * len(gaps) + 18 * len(notes)
    parts = [f'<text class="title" x="16" y="26">{_escaped(title)}</text>']
    x = 16
    for name in _phases(rows):
        parts.append(f'<rect x="{x}" y="42" width="12" height="12" rx="2" style="fill: var(--{name})"/>')
        parts.append(f'<text x="{x + 18}" y="53">{name}</text>')
        x += 46 + 8 * len(name)
    step = _step(longest)
    for number in range(int(longest / step) + 1):
        place = left + number * step * scale
        parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="70" y2="{bottom}"/>')
        parts.append(f'<text class="quiet small middle" x="{place:.1f}" y="{bottom + 16}">{number * step:g} s</text>')
    for index, row in enumerate(rows):
        parts += _drawn(row, 76 + 34 * index, left, scale)
    for index, gap in enumerate(gaps):
        y = bottom + 48 + 34 * index
        parts.append(f'<text class="small end" x="{left - 8}" y="{y}">{gap.seconds:.2f} s silent</text>')
        for line, (word, text) in enumerate((("after", gap.before or "the start"), ("before", gap.after))):
            told = f"{word} {_shortened(text)}"
            parts.append(f'<text class="quiet small" x="{left}" y="{y + 14 * line}">{_escaped(told)}</text>')
    for index, note in enumerate(notes):
        y = bottom + 48 + 34 * len(gaps) + 18 * index
        parts.append(f'<text class="quiet small" x="16" y="{y}">{_escaped(note)}</text>')
    size = f'width="{right}" height="{height}" viewBox="0 0 {right} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{_STYLE}</style>\n' + "\n".join(
        [f"<title>{_escaped(title)}</title>", *parts, "</svg>\n"]
    )


def _drawn(row: Row, y: int, left: int, scale: float) -> Iterator[str]:
    yield f'<text class="end" x="{left - 8}" y="{y + 15}">{_escaped(row.name)}</text>'
    for phase in row.course.phases:
        x, width = left + phase.start * scale, phase.seconds * scale
        told = f"{phase.name}: {_cell(row.course, phase.name)} s, from {phase.start:.2f} s to {phase.end:.2f} s"
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" style="fill: var(--{phase.name})">'
        yield f"<title>{told}</title></rect>"
        if width > 34:
            inside = _cell(row.course, phase.name)
            yield f'<text class="inside" x="{x + width / 2:.1f}" y="{y + 15}">{inside}</text>'
    total = f"{row.course.end:.2f} s{'' if row.course.ready else '!'}"
    yield f'<text x="{left + row.course.end * scale + 8:.1f}" y="{y + 15}">{total}</text>'


def _step(longest: float) -> float:
    """Seconds from one line of the grid to the next, so that there are at most ten."""
    steps = (unit * 10.0**power for power in range(-2, 9) for unit in (1, 2, 5))
    return next(step for step in steps if longest / step <= 10)


def _phases(rows: Sequence[Row]) -> list[Name]:
    """The phases that any of them has."""
    return [name for name in PHASES if any(row.course.seconds(name) is not None for row in rows)]


def _cell(course: Course, name: Name) -> str:
    seconds = course.seconds(name)
    more = "*" if course.quiet and course.phases[-1].name == name else ""
    return "-" if seconds is None else f"{seconds:.2f}{more}"


def _change(before: Course, after: Course, name: Name) -> str:
    """Nothing where one of them does not have the phase, or has more than that in it."""
    old, new = before.seconds(name), after.seconds(name)
    whole = not any(course.quiet and course.phases[-1].name == name for course in (before, after))
    return f"{new - old:+.2f}" if whole and old is not None and new is not None else ""


def _bar(course: Course, longest: float, width: int) -> str:
    places = [round(phase.end / longest * width) if longest else 0 for phase in course.phases]
    pairs = zip(course.phases, [0, *places], places, strict=False)
    return "".join(_BLOCKS[phase.name] * (after - before) for phase, before, after in pairs)


def _shortened(line: str) -> str:
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 4]} ..."


def printable(text: str) -> str:
    """A line whose characters neither a terminal nor XML would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _escaped(text: str) -> str:
    return html.escape(printable(text))
