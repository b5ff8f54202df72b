"""EROFS file systems, made by mkfs.erofs: compressed, read-only, the same bytes on every machine."""

from pathlib import Path

from kiln.errors import KilnError
from kiln.image import tar
from kiln.image.manifest import Manifest
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

_LONGEST_LABEL = 15


def write(
    manifest: Manifest, path: Path, *, sandbox: Sandbox, scratch: Path, utils: Path, uuid: str, label: str = "rootfs"
) -> None:
    """Write the manifest as a file system. ``scratch`` is an empty folder, ``utils`` the result of erofs-utils.

    Raises KilnError for a label of more than 15 bytes.
    """
    if len(label.encode()) > _LONGEST_LABEL:
        hint = f"erofs has room for {_LONGEST_LABEL} bytes"
        raise KilnError(f"the label {label!r} is too long", where=path.name, hint=hint)
    tar.write(manifest, scratch / "root.tar")
    path.unlink(missing_ok=True)
    mounts = [
        Mount(source=utils, target="/tools"),
        Mount(source=scratch, target="/work", writable=True),
        Mount(source=path.parent, target="/dest", writable=True),
    ]
    # Clusters of 64 KiB take a seventh less room than those of 4 KiB, and larger ones hardly less than that.
    options = ["--tar=f", "-zlz4hc,level=12", "-C65536", "-T", str(EPOCH), "-U", uuid, "-L", label, "--quiet"]
    inside = sandbox.with_mounts(mounts).with_env({"TMPDIR": "/work"})
    inside.run(["mkfs.erofs", *options, f"/dest/{path.name}", "/work/root.tar"])
