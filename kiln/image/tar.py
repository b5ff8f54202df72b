"""tar archives: PAX, with owners by number."""

import io
import tarfile
from pathlib import Path

from kiln.image.manifest import Manifest
from kiln.trees import EPOCH

_TYPES = {"file": b"0", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6"}


def write(manifest: Manifest, path: Path) -> None:
    """Write the manifest as one uncompressed archive."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for node in manifest.nodes:
            entry = tarfile.TarInfo(node.path)
            entry.type = _TYPES[node.kind]
            entry.mode, entry.uid, entry.gid = node.mode, node.uid, node.gid
            entry.size, entry.linkname, entry.mtime = node.size, node.target, EPOCH
            entry.devmajor, entry.devminor = node.device or (0, 0)
            archive.addfile(entry, io.BytesIO(node.read()) if node.kind == "file" else None)
