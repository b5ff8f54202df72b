"""Why targets would be made: what differs in their inputs from the nearest result, down to the first cause."""

import json
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from typing import Any

from kiln.recipe.step import shell
from kiln.target import UNKNOWN, Target, closure, key

_WIDTH = 100


def why(target: Target, needed: Callable[[Target], bool]) -> Iterator[str]:
    """What would be made for ``target``, in order, and why; ``needed`` tells for a lazy one whether it is."""
    waiting: dict[str, list[str]] = {}
    stale = False
    for each in closure(target):
        if each.entry() or (each.lazy and not needed(each)):
            continue
        causes = [dep.id for dep in each.deps if not dep.lazy and not dep.entry()]
        lines = list(reasons(each))
        if lines or not causes:
            stale = True
            yield f"{each.id:<22} will be {'fetched' if each.lazy else 'built'}"
            yield from (f"    {line}" for line in lines)
        else:
            waiting[each.id] = causes
    for name, causes in waiting.items():
        yield f"{name:<22} follows, if {' or '.join(causes)} comes out different"
    if not stale and not waiting:
        entry = target.entry()
        yield f"{target.id} is up to date" + (f": {entry.path}" if entry else ", and nothing needs it")


def reasons(target: Target) -> Iterator[str]:
    """Why a target that is not fresh must be made; nothing where that hangs on others alone."""
    inputs, store = target.inputs(), target.store
    known = key(inputs)
    place = store.entry_path(target.name, target.version, known) if known else None
    if place and place.exists() and not (place / "stamp.json").exists():
        yield f"its result was damaged, and is set aside: {place}"
        return
    if place and any(place.name in entries for entries in store.roots().values()) and not place.exists():
        yield f"its result is gone: {place}"
        return
    found = [difference(entry.inputs, inputs) for entry in store.entries(target.name)]
    if not found:
        yield "was never built"
        return
    lines = min(found, key=len)
    if not lines:
        yield "its result is there, but the output folder shows another"
    yield from (line for line in lines if not line.endswith(f"-> {UNKNOWN}"))


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """How two JSON values differ, a line for each place: ``where: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict) and not _is_action(old):
        lines: list[str] = []
        for name in sorted(old.keys() | new.keys()):
            place = f"{path}.{name}" if path else name
            if name in old and name in new:
                lines += difference(old[name], new[name], place)
            else:
                lines.append(
                    f"{place}: " + (f"gone ({_short(old[name])})" if name in old else f"new ({_short(new[name])})")
                )
        return lines
    if isinstance(old, list) and isinstance(new, list):
        return _lists(old, new, path)
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        return _lists(old.splitlines(), new.splitlines(), path)
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _lists(old: list[Any], new: list[Any], path: str) -> list[str]:
    texts = [[json.dumps(item, sort_keys=True) for item in items] for items in (old, new)]
    lines = []
    for kind, a, b, c, d in SequenceMatcher(a=texts[0], b=texts[1], autojunk=False).get_opcodes():
        if kind != "equal":
            gone, come = (", ".join(map(_short, items)) for items in (old[a:b], new[c:d]))
            lines.append(f"{path}[{a}]: {gone or 'nothing'} -> {come or 'nothing'}")
    return lines


def _is_action(value: dict[str, Any]) -> bool:
    return bool(value.keys() & {"run", "write", "copy", "symlink", "folder"})


def _short(value: Any) -> str:
    if isinstance(value, dict) and _is_action(value):
        value = shell([value]).removeprefix("(cd /build && ").removesuffix(")")
    text = value[:12] if isinstance(value, str) and len(value) == 64 else str(value).replace("\n", "\\n")
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH // 2 - 3]} ... {text[-_WIDTH // 2 + 2 :]}"
