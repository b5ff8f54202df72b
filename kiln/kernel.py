"""The kernel that a board boots: the one that it builds, or a file that somebody else built."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.errors import KilnError
from kiln.settings import Settings
from kiln.source.download import download
from kiln.store import Entry, Store, Work
from kiln.target import Target

# What lies beside the kernel in the boot/ of a result.
_BESIDE = ("System.map", "config")


@dataclass(frozen=True, kw_only=True)
class Prebuilt:
    """A kernel file: ``file`` is its path or URL, ``sha256`` pins it; ``license`` is an SPDX expression.

    ``config`` is the path of the configuration that it was built with, where it is known.
    """

    file: str
    sha256: str
    license: str = "GPL-2.0-only WITH Linux-syscall-note"
    config: str = ""

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise KilnError(f"{self.sha256!r} is no SHA-256 digest", hint="`sha256sum FILE` prints it")

    @property
    def name(self) -> str:
        return os.path.basename(self.file)


class PrebuiltKernel(Target):
    """A prebuilt kernel in the store, laid out like one that was built."""

    id = "kernel"
    name = "kernel-prebuilt"
    package = "linux"

    def __init__(self, kernel: Prebuilt, settings: Settings, store: Store) -> None:
        super().__init__(store)
        self.version = kernel.sha256[:12]
        self.doc = f"the kernel {kernel.name}, built elsewhere"
        self._kernel = kernel
        self._settings = settings

    def inputs(self) -> dict[str, Any]:
        config = self._kernel.config and digest.of_file(self._settings.root / self._kernel.config).hash
        kernel = {"name": self._kernel.name, "sha256": self._kernel.sha256, "config": config}
        return {"name": self.name, "version": self.version, "kernel": kernel}

    def fill(self, work: Work) -> dict[str, Any]:
        boot, kernel = work.root / "boot", self._kernel
        boot.mkdir()
        address = (
            kernel.file if "://" in kernel.file else os.fspath(self._settings.root / Path(kernel.file).expanduser())
        )
        kept = self._settings.downloads / f"{kernel.sha256[:12]}-{kernel.name}"
        try:
            download(address, kept, sha256=kernel.sha256)
        except KilnError as error:
            hint = error.hint or "see file and sha256 in [kernel] of the board; `sha256sum FILE` prints a digest"
            raise KilnError(error.message, where=error.where, hint=hint) from error
        shutil.copyfile(kept, boot / kernel.name)
        if kernel.config:
            shutil.copyfile(self._settings.root / kernel.config, boot / "config")
        return {}


def kernel_image(kernel: Entry) -> Path:
    """The file that a boot loader starts."""
    found = [path for path in (kernel.root / "boot").iterdir() if path.name not in _BESIDE]
    if len(found) != 1:
        hint = "`doit verify` finds what was damaged, if the recipe installs one"
        raise KilnError(f"expected one kernel in boot/, found {len(found)}", where=os.fspath(kernel.root), hint=hint)
    return found[0]
