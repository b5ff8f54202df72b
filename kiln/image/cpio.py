"""cpio archives in the "newc" format, as the kernel unpacks them."""

import stat
from pathlib import Path
from typing import IO

from kiln.errors import KilnError
from kiln.image.manifest import Manifest
from kiln.trees import EPOCH

_BLOCK = 512
_LARGEST = 0xFFFFFFFF


def write(manifest: Manifest, path: Path) -> None:
    """Write the manifest as one archive. Raises KilnError for a file of 4 GiB or more."""
    links = _link_counts(manifest)
    with path.open("wb") as out:
        # The kernel's own root folder can be written by everyone.
        _entry(out, ".", b"", {"ino": 1, "mode": stat.S_IFDIR | 0o755, "nlink": links[""], "mtime": EPOCH})
        for number, node in enumerate(manifest.nodes, start=2):
            if node.size > _LARGEST:
                raise KilnError(f"/{node.path} is too big for a cpio archive ({node.size} bytes)", where=node.package)
            data = node.read() if node.kind == "file" else node.target.encode()
            major, minor = node.device or (0, 0)
            fields = {"mode": node.st_mode, "uid": node.uid, "gid": node.gid, "rmajor": major, "rminor": minor}
            fields |= {"ino": number, "nlink": links.get(node.path, 1), "mtime": EPOCH}
            _entry(out, node.path, data, fields)
        _entry(out, "TRAILER!!!", b"", {"nlink": 1})
        out.write(bytes(-out.tell() % _BLOCK))


def _link_counts(manifest: Manifest) -> dict[str, int]:
    folders = [node.path for node in manifest.nodes if node.kind == "dir"]
    counts = dict.fromkeys(["", *folders], 2)
    for folder in folders:
        counts[folder.rpartition("/")[0]] += 1
    return counts


def _entry(out: IO[bytes], path: str, data: bytes, fields: dict[str, int]) -> None:
    name = path.encode() + b"\0"
    fields = fields | {"size": len(data), "namesize": len(name)}
    order = ("ino", "mode", "uid", "gid", "nlink", "mtime", "size", "major", "minor", "rmajor", "rminor", "namesize")
    header = "070701" + "".join(f"{fields.get(field, 0):08X}" for field in (*order, "check"))
    out.write(_padded(header.encode() + name))
    out.write(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
