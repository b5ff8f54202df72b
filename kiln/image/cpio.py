"""The root file system as an initramfs: one archive, as the kernel unpacks it. Its format has no file capabilities."""

import stat
from pathlib import Path

from kiln.errors import KilnError
from kiln.image.manifest import Manifest
from kiln.initramfs.newc import LARGEST, TRAILER, Entry, padding
from kiln.trees import EPOCH

_BLOCK = 512


def write(manifest: Manifest, path: Path) -> None:
    """Write the manifest as one archive. Raises KilnError for a file of 4 GiB or more."""
    links = _link_counts(manifest)
    with path.open("wb") as out:
        # The kernel's own root folder can be written by everyone.
        out.write(Entry(name=".", ino=1, mode=stat.S_IFDIR | 0o755, nlink=links[""], mtime=EPOCH).pack())
        for number, node in enumerate(manifest.nodes, start=2):
            if node.size > LARGEST:
                raise KilnError(f"/{node.path} is too big for a cpio archive ({node.size} bytes)", where=node.package)
            data = node.read() if node.kind == "file" else node.target.encode()
            major, minor = node.device or (0, 0)
            entry = Entry(
                name=node.path,
                ino=number,
                mode=node.st_mode,
                uid=node.uid,
                gid=node.gid,
                nlink=links.get(node.path, 1),
                mtime=EPOCH,
                size=len(data),
                rmajor=major,
                rminor=minor,
            )
            out.write(entry.pack() + data + padding(len(data)))
        out.write(Entry(name=TRAILER).pack())
        out.write(bytes(-out.tell() % _BLOCK))


def _link_counts(manifest: Manifest) -> dict[str, int]:
    folders = [node.path for node in manifest.nodes if node.kind == "dir"]
    counts = dict.fromkeys(["", *folders], 2)
    for folder in folders:
        counts[folder.rpartition("/")[0]] += 1
    return counts
