"""Settings of the user's machine, from the environment: where things are kept and where downloads come from."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError, nearest

_ACCEL = ("kvm", "tcg", "icount")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where kiln reads and writes. Nothing here may change a result."""

    root: Path
    output: Path
    store: Path
    shared: tuple[Path, ...]
    downloads: Path
    mirror: str | None
    archive: str | None
    jobs: int
    ccache: str | None
    keep_build: tuple[str, ...]
    accel: str | None
    clock: Path | None

    @staticmethod
    def read(root: Path, env: Mapping[str, str] = os.environ) -> "Settings":
        """The settings of the project in ``root``.

        ``KILN_STORE`` and ``KILN_DOWNLOADS`` are folders, ``KILN_SHARED`` further stores that are only read, with
        ``:`` between them. ``KILN_MIRROR`` is a folder or URL with source files, ``KILN_DEBIAN`` the base URL of a
        Debian archive. ``KILN_JOBS`` is how many processes may compile, ``KILN_CCACHE`` the size of the compilers'
        cache, such as 5G, or 0 for none. ``KILN_KEEP_BUILD`` names packages whose build folders are kept for the next
        build, with ``,`` between them. ``KILN_ACCEL`` is how QEMU runs the machine (kvm or tcg; without it, kvm where
        it works; icount is tcg with a clock that counts instructions). ``KILN_CLOCK`` is a folder with a library
        ``clock.so`` that builds load first; ``doit repro`` sets it, for another time.
        """
        output = root / "output"
        jobs = env.get("KILN_JOBS", str(len(os.sched_getaffinity(0))))
        if not jobs.isascii() or not jobs.isdigit() or not 1 <= int(jobs) <= 1024:
            raise KilnError(f"{jobs!r} is not a number from 1 to 1024", where="KILN_JOBS")
        accel = env.get("KILN_ACCEL") or None
        if accel not in (None, *_ACCEL):
            raise KilnError(f"{accel!r} is no way to run QEMU", where="KILN_ACCEL", hint=nearest(accel, _ACCEL))
        ccache = env.get("KILN_CCACHE") or "5G"
        if not re.fullmatch(r"0|[1-9][0-9]{0,5}[MG]", ccache):
            raise KilnError(f"{ccache!r} is no size", where="KILN_CCACHE", hint="write 500M or 5G, or 0 for no cache")
        return Settings(
            root=root,
            output=output,
            store=Path(env.get("KILN_STORE") or output / "store").expanduser().absolute(),
            shared=tuple(Path(name).expanduser().absolute() for name in env.get("KILN_SHARED", "").split(":") if name),
            downloads=Path(env.get("KILN_DOWNLOADS") or output / "downloads").expanduser().absolute(),
            mirror=env.get("KILN_MIRROR") or None,
            archive=env.get("KILN_DEBIAN") or None,
            jobs=int(jobs),
            ccache=None if ccache == "0" else ccache,
            keep_build=tuple(name.strip() for name in env.get("KILN_KEEP_BUILD", "").split(",") if name.strip()),
            accel=accel,
            clock=Path(clock).absolute() if (clock := env.get("KILN_CLOCK")) else None,
        )
