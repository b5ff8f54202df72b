"""What the profiles of a board's initramfs cost: their sizes by each compressor, and the time to unpack them here."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiln.image.media import COMPRESSORS, compress
from kiln.initramfs import segments
from kiln.report.initramfs import Stretch, stretches
from kiln.report.size import human
from kiln.sandbox import Sandbox

_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A profile, as each compressor packs it; the seconds are the least of some runs."""

    name: str
    by_compressor: Mapping[str, Stretch]


def measure(files: Mapping[str, Path], sandbox: Sandbox, step: Callable[[str], None]) -> list[Measured]:
    """Pack the initramfs of each name by every compressor, and unpack it; ``step`` is told of each."""
    found = []
    for name, path in files.items():
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch, "plain/initramfs.cpio")
            plain.parent.mkdir()
            _unpack(path, plain)
            made = {}
            for compressor in COMPRESSORS:
                step(f"{name} {compressor}")
                folder = Path(scratch, compressor)
                folder.mkdir()
                packed = compress(plain, folder, compressor, sandbox)
                made[compressor] = min((next(stretches(packed)) for _ in range(_RUNS)), key=lambda one: one.seconds)
            found.append(Measured(name=name, by_compressor=made))
    return found


def render(found: Sequence[Measured]) -> Iterator[str]:
    """Two tables: sizes, and times."""
    width = max(len(one.name) for one in found)
    head = "".join(f"{name:>10}" for name in COMPRESSORS)
    yield f"{'':<{width}}  entries{head}"
    for one in found:
        sizes = "".join(f"{human(part.packed):>10}" for part in one.by_compressor.values())
        yield f"{one.name:<{width}}  {one.by_compressor['none'].entries:>7}{sizes}"
    yield f"{'unpacked here in':<{width + 9}}{head}"
    for one in found:
        times = "".join(f"{part.seconds:>8.3f} s" for part in one.by_compressor.values())
        yield f"{one.name:<{width}}  {'':>7}{times}"


def _unpack(path: Path, plain: Path) -> None:
    with plain.open("wb") as out:
        for piece in segments.content(path):
            out.write(piece)
