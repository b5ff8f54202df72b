"""tar archives: PAX, with owners by number and extended attributes as GNU tar and libarchive read them."""

import io
import tarfile
from pathlib import Path

from kiln.image.manifest import Manifest, Node
from kiln.trees import EPOCH

_TYPES = {"file": b"0", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6"}


def write(manifest: Manifest, path: Path) -> None:
    """Write the manifest as one uncompressed archive."""
    # The root's own mode and owner count as well, for whoever unpacks it into a folder that only its maker can read.
    root = Node(path="root", kind="dir", mode=0o755, package="")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, node in [(".", root), *((node.path, node) for node in manifest.nodes)]:
            entry = tarfile.TarInfo(name)
            entry.type = _TYPES[node.kind]
            entry.mode, entry.uid, entry.gid = node.mode, node.uid, node.gid
            entry.size, entry.linkname, entry.mtime = node.size, node.target, EPOCH
            entry.devmajor, entry.devminor = node.device or (0, 0)
            entry.pax_headers = {
                f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in node.xattrs.items()
            }
            archive.addfile(entry, io.BytesIO(node.read()) if node.kind == "file" else None)
