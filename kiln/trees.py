"""Trees of files in the store: sealed, laid over each other, removed."""

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from kiln.errors import KilnError

# Every time stamp in an entry or an image, in seconds since 1970: 2026-01-01 00:00 UTC.
EPOCH = 1767225600


def seal(root: Path, file_mode: int = 0o444) -> None:
    """Give a tree one time stamp and plain modes, read-only for all that is not said otherwise."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in (*files, *folders):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, file_mode | 0o111 if mode & 0o111 else file_mode)
            elif stat.S_ISDIR(mode):
                os.chmod(path, 0o555)
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    os.chmod(root, 0o555)
    os.utime(root, (EPOCH, EPOCH))


def remove(path: Path) -> None:
    """Remove a tree, sealed or not; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def merge(roots: Sequence[Path], into: Path) -> None:
    """Lay sealed trees over each other by hard links, so that nothing is copied where one file system has both."""
    for root in map(os.fspath, roots):
        for folder, folders, files in os.walk(root):
            place = f"{into}{folder[len(root) :]}"
            os.makedirs(place, exist_ok=True)
            for name in [*files, *(name for name in folders if os.path.islink(f"{folder}/{name}"))]:
                try:
                    link(f"{folder}/{name}", f"{place}/{name}")
                except FileExistsError as error:
                    shown = os.path.relpath(f"{place}/{name}", into)
                    raise KilnError(f"two packages bring {shown} into one sysroot") from error


def link(source: str | Path, target: str | Path) -> None:
    """Give a file or link one more name, or copy it where that cannot be."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)
