"""The plan of a target: what it is made from and by which commands, as ``doit info`` shows it."""

from collections.abc import Iterator
from typing import Any

from kiln.recipe.step import shell
from kiln.report.progress import duration
from kiln.report.why import reasons
from kiln.target import Target

_SHOWN = 40


def plan(target: Target) -> Iterator[str]:
    yield f"{target.id}: {target.doc}"
    entry, inputs = target.entry(), dict(target.inputs())
    if entry:
        local = ", local" if target.local else ""
        yield _row("result", f"up to date, made in {duration(entry.seconds)}{local}: {entry.root}")
        yield _row("log", f"{entry.log}")
        yield _row("digest", entry.digest)
    else:
        causes = list(reasons(target)) or ["what it is made from may come out different"]
        yield _row("to be made", "\n".join(causes))
    yield _row("key", target.key() or "known when what it needs is built")
    yield _row("needs", " ".join(dep.id for dep in target.deps))
    phases = inputs.pop("phases", {})
    for name, value in inputs.items():
        if name not in ("name", "version") and value:
            yield _row(name, _text(value))
    for name, actions in phases.items():
        if actions:
            yield _row(name, shell(actions))


def _row(name: str, text: str) -> str:
    return f"  {name:<11} " + text.replace("\n", "\n" + " " * 14)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        rows = [f"{name}: {item}" for name, item in sorted(value.items())]
    elif isinstance(value, list):
        rows = [str(item) for item in value]
    else:
        return str(value)
    return "\n".join(rows[:_SHOWN] + ([f"and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []))
