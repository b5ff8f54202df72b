"""tar archives: PAX, with owners by number."""

import io
import tarfile
from pathlib import Path

from kiln.image.manifest import Manifest
from kiln.store import EPOCH

_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


def write(manifest: Manifest, path: Path) -> None:
    """Write the manifest as one uncompressed archive."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for node in manifest.nodes:
            entry = tarfile.TarInfo(node.path)
            entry.type = _TYPES[node.kind]
            entry.mode = node.mode
            entry.uid, entry.gid = node.uid, node.gid
            entry.mtime = EPOCH
            entry.size = node.size
            entry.linkname = node.target
            entry.devmajor, entry.devminor = node.device or (0, 0)
            archive.addfile(entry, io.BytesIO(node.read()) if node.kind == "file" else None)
