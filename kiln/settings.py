"""Settings of the user's machine, from the environment: where things are kept and where downloads come from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where kiln reads and writes. Nothing here may change a result."""

    root: Path
    output: Path
    store: Path
    downloads: Path
    mirror: str | None
    archive: str | None
    jobs: int
    accel: str | None

    @staticmethod
    def read(root: Path, env: Mapping[str, str] = os.environ) -> "Settings":
        """The settings of the project in ``root``.

        ``KILN_STORE`` and ``KILN_DOWNLOADS`` are folders, ``KILN_MIRROR`` is a folder or URL with source files,
        ``KILN_DEBIAN`` the base URL of a Debian archive, ``KILN_JOBS`` how many processes may compile,
        ``KILN_ACCEL`` how QEMU runs the machine (kvm or tcg; without it, kvm where it works).
        """
        output = root / "output"
        jobs = env.get("KILN_JOBS", str(len(os.sched_getaffinity(0))))
        if not jobs.isascii() or not jobs.isdigit() or not 1 <= int(jobs) <= 1024:
            raise KilnError(f"{jobs!r} is not a number from 1 to 1024", where="KILN_JOBS")
        accel = env.get("KILN_ACCEL") or None
        if accel not in (None, "kvm", "tcg"):
            raise KilnError(f"{accel!r} is neither kvm nor tcg", where="KILN_ACCEL")
        return Settings(
            root=root,
            output=output,
            store=Path(env.get("KILN_STORE") or output / "store").expanduser().absolute(),
            downloads=Path(env.get("KILN_DOWNLOADS") or output / "downloads").expanduser().absolute(),
            mirror=env.get("KILN_MIRROR") or None,
            archive=env.get("KILN_DEBIAN") or None,
            jobs=int(jobs),
            accel=accel,
        )
