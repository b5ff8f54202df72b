"""``doit boot-report``: where the time of a boot went."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from kiln import board as boards
from kiln.errors import KilnError, nearest, say
from kiln.graph import Graph
from kiln.image import cpio
from kiln.image.media import COMPRESSORS
from kiln.kernel import kernel_image
from kiln.report import timeline
from kiln.report.phases import course
from kiln.report.timeline import Row
from kiln.vm import compressors as trials
from kiln.vm.diagnose import read
from kiln.vm.qemu import Boot, find_qemu
from kiln.vm.setup import Setup

_RUNS = 3


def boot_report(graph: Graph, *places: str, compressors: bool) -> None:
    """Tell the phases of boots from their logs: roads, boards, folders or files; without any, of all roads.

    With ``compressors`` the board is booted with its initramfs packed by each.
    """
    if any(place.startswith("-") for place in places) or (compressors and places):
        hint = "doit boot-report [PLACE ...], or doit boot-report --compressors"
        raise KilnError("options come before names, and --compressors goes alone", hint=hint)
    if compressors:
        _compressors(graph)
        return
    logs = [log for place in places for log in _named(graph, place)] if places else _of_board(graph)
    rows: list[Row] = []
    for name, path in logs:
        try:
            text = path.read_text(errors="replace")
            found = course(read(text), _symbols(graph) if "initcall 0x" in text else {})
        except (OSError, KilnError) as error:
            reason = error.strerror or "" if isinstance(error, OSError) else error.message
            if len(logs) == 1:
                raise KilnError(f"cannot report on this log: {reason}", where=os.fspath(path)) from error
            say(f"{os.path.relpath(path)} is left out: {reason}")
            continue
        rows.append(Row(name=name, course=found, against=_earlier(name, rows, [other for other, _ in logs])))
    if not rows:
        raise KilnError("none of these logs can be read", hint="doit test")
    print("\n".join(timeline.render(rows)))
    picture = graph.image.output / "boot-report.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(timeline.svg(f"{graph.board.name}: time to boot", rows))
    print(os.path.relpath(picture), flush=True)


def _of_board(graph: Graph) -> list[tuple[str, Path]]:
    found = _folder("", graph.image.output / "boot")
    if not found:
        raise KilnError(
            f"there is no log of a boot of {graph.board.name} yet", hint="doit test, or doit boot-report LOG"
        )
    return found


def _named(graph: Graph, place: str) -> list[tuple[str, Path]]:
    """The logs that a word of the user's means, by what they are called in the report."""
    own = graph.image.output / "boot" / f"{place}.log"
    if own.exists():
        return [(place, own)]
    names = boards.names(graph.settings.root)
    path = graph.settings.output / place if place in names else Path(place)
    if path.is_dir():
        found = _folder(f"{place.rstrip('/')}/", path / "boot" if (path / "boot").is_dir() else path)
        if found:
            return found
    elif path.exists():
        return [(place, path)]
    if place in graph.roads or place in names or path.is_dir():
        where = f"{graph.board.name} by {place}" if place in graph.roads else place
        command = f"doit test:{place}" if place in graph.roads else f"doit test BOARD={place}" if place in names else ""
        raise KilnError("there is no log of a boot", where=where, hint=command or "a log's name ends with .log")
    raise KilnError(f"there is no road, board or log {place!r}", hint=nearest(place, [*graph.roads, *names]))


def _symbols(graph: Graph) -> dict[str, str]:
    """The functions of the board's kernel by their addresses, where these are not random."""
    kernel = graph.kernel.entry()
    places = kernel.root / "boot/System.map" if kernel else None
    rows = [line.split() for line in places.read_text().splitlines()] if places and places.exists() else []
    return {f"0x{address}": name for address, _, name in rows}


def _folder(prefix: str, folder: Path) -> list[tuple[str, Path]]:
    return [(f"{prefix}{path.stem}", path) for path in sorted(folder.glob("*.log"))]


def _earlier(name: str, rows: Sequence[Row], names: Sequence[str]) -> Row | None:
    """What a boot is compared with: the first one by the same road, or the first of all where no road comes twice."""
    roads = [os.path.basename(other) for other in names]
    alike = [row for row in rows if os.path.basename(row.name) == os.path.basename(name)]
    if len(set(roads)) == len(roads):
        alike = list(rows)
    return alike[0] if alike else None


def _compressors(graph: Graph) -> None:
    kernel = graph.kernel.entry()
    if not kernel or not graph.rootfs.entry():
        raise KilnError(f"{graph.board.name} was not built yet", hint="doit image")
    with graph.jobserver.slot(), tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, "rootfs.cpio")
        cpio.write(graph.rootfs.settled(), plain)
        program, kvm = find_qemu(graph)
        total = _RUNS * len(COMPRESSORS)
        with tqdm(total=total, unit="boots", leave=False, disable=None) as bar:

            def step(text: str) -> None:
                bar.set_description_str(text)
                bar.update()

            made = trials.measure(
                plain,
                Boot(kernel=kernel_image(kernel), cmdline=graph.board.cmdline),
                machine=graph.board.machine,
                program=program,
                kvm=kvm,
                setup=Setup.of(graph),
                sandbox=graph.tools.sandbox("image"),
                runs=_RUNS,
                step=step,
            )
    print("\n".join(trials.render(made)), flush=True)
