"""What a user asks of a finished initramfs: what is in it, whether it can work, and what its profiles cost."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kiln.dracut.lint import Known
from kiln.dracut.profile import PROFILES, Profile
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.image.media import COMPRESSORS
from kiln.initramfs.links import Links
from kiln.initramfs.verify import verify
from kiln.initramfs.view import View
from kiln.report import initramfs, profiles
from kiln.report.phases import course
from kiln.store import Entry, read
from kiln.verbs.cpio import show
from kiln.vm import diagnose
from kiln.vm.roads import ROADS

_OWN = "initramfs"


def report(graph: Graph, *places: str) -> None:
    """Tell what an initramfs is made of: a file, or that of the board."""
    path, entry = _given(graph, places, "doit initramfs:report [FILE]")
    notes: Mapping[str, Any] = entry.notes if entry else {}
    origins = {kind: notes[kind] for kind in ("modules", "packages") if kind in notes}
    show(initramfs.render(path, origins, boots=_boots(graph, entry) if entry else {}))


def verify_(graph: Graph, *places: str) -> None:
    """Tell what would keep an initramfs from its work. Raises KilnError where something would."""
    path, entry = _given(graph, places, "doit initramfs:verify [FILE]")
    must, builtin = _wanted(graph, entry)
    links = Links(view=View.read(path, keep=True))
    found = list(verify(links, must=must, builtin=builtin))
    for one in found:
        print(f"{'wrong' if one.wrong else 'note'}  {one.where}: {one.text}\n    {one.instead}")
    wrong = sum(one.wrong for one in found)
    if wrong:
        raise KilnError(f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong", where=os.fspath(path))
    print(f"{os.fspath(path)}: {len(links.programs)} programs, scripts and libraries find all that they need")


def compare(graph: Graph) -> None:
    """Tell what the profiles of the board's initramfs cost, those that were made."""
    names = {f"{_OWN}:{name}": name for name in PROFILES} | {_OWN: graph.board.name}
    made = {names[id]: medium.file for id, medium in graph.media.items() if id in names and medium.entry()}
    if not made:
        raise KilnError(f"no initramfs of {graph.board.name} was made yet", hint=f"doit {_OWN}")
    with tqdm(total=len(made) * len(COMPRESSORS), unit="files", leave=False, disable=None) as bar:

        def step(text: str) -> None:
            bar.set_description_str(text)
            bar.update()

        found = profiles.measure(made, graph.tools.sandbox("image"), step)
    print("\n".join(profiles.render(found)))
    for id in names:
        if id in graph.media and names[id] not in made:
            print(f"{names[id]} was not made yet: doit {id}")


def _given(graph: Graph, places: tuple[str, ...], usage: str) -> tuple[Path, Entry | None]:
    """The file that is meant, and the result that it is, if it is one of ours."""
    if len(places) > 1:
        raise KilnError("name one file", hint=usage)
    if places:
        path = Path(places[0])
        return path, read(path.resolve().parent.parent)
    target = graph.media.get(_OWN)
    entry = target.entry() if target else None
    if not target or not entry:
        problem = "was not made yet" if target else "is none"
        hint = f"doit {_OWN}" if target else 'name a file, or write initramfs = "dracut" (or "simple")'
        raise KilnError(f"the initramfs of {graph.board.name} {problem}", hint=hint)
    return Path(os.path.relpath(target.output.folder / target.file.name)), entry


def _wanted(graph: Graph, entry: Entry | None) -> tuple[tuple[str, ...], set[str]]:
    """What has to be in a result of the board, and what its kernel has built in; nothing for what is another's."""
    prefix = f"{graph.board.name}-{_OWN}"
    name = str(entry.inputs["name"]) if entry else ""
    if not name.startswith(prefix):
        return (), set()
    kernel = graph.kernel.entry()
    profile = Profile(board=graph.board, name=name[len(prefix) :].lstrip(":"))
    return profile.must, set(Known.of(kernel.root).builtin) if kernel else set()


def _boots(graph: Graph, entry: Entry) -> dict[str, float]:
    """How long kernels took to unpack the board's own, by road, from logs of boots since it was made."""
    target = graph.media.get(_OWN)
    if not target or entry != target.entry():
        return {}
    found: dict[str, float] = {}
    for name in (name for name in graph.roads if _OWN in ROADS[name].media):
        log = graph.image.output / "boot" / f"{name}.log"
        if log.exists() and log.stat().st_mtime > entry.path.stat().st_mtime:
            seconds = course(diagnose.read(log.read_text(errors="replace"))).unpacking
            found |= {f"doit test:{name}": seconds} if seconds else {}
    return found
