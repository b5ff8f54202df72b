"""What a program asks for before it can start: its loader and its libraries, or what interprets it."""

import io
from dataclasses import dataclass

_ELF = b"\x7fELF"
_WORDS = {"DT_NEEDED": "needed", "DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}


@dataclass(frozen=True, kw_only=True)
class Program:
    """``interpreter`` is a path, empty where it needs none; ``needed`` are libraries, and ``folders`` its own for them.

    ``damaged`` says that it cannot be read.
    """

    interpreter: str = ""
    needed: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    damaged: bool = False


def program(data: bytes) -> Program | None:
    """A script, an ELF program or an ELF library; None for all else."""
    if data.startswith(b"#!"):
        words = data[2:].partition(b"\n")[0].split()
        return Program(interpreter=words[0].decode(errors="surrogateescape") if words else "")
    if not data.startswith(_ELF):
        return None
    return _elf(data)


def _elf(data: bytes) -> Program:
    # Costs 0.05 s, which every start would pay.
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

    interpreter = ""
    needed: list[str] = []
    folders: list[str] = []
    try:
        for segment in ELFFile(io.BytesIO(data)).iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = segment.get_interp_name()
            elif isinstance(segment, DynamicSegment):
                for tag in segment.iter_tags():
                    if word := _WORDS.get(tag.entry.d_tag):
                        value: str = getattr(tag, word)
                        needed += [value] if word == "needed" else []
                        folders += value.split(":") if word != "needed" else []
    except (ELFError, ConstructError, AssertionError, OverflowError, ValueError, LookupError):
        return Program(damaged=True)
    return Program(interpreter=interpreter, needed=tuple(needed), folders=tuple(folders))
