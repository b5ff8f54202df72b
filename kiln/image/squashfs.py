"""squashfs file systems, made by sqfstar: compressed, read-only, the same bytes on every machine."""

from pathlib import Path

from kiln.image import tar
from kiln.image.manifest import Manifest
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH


def write(manifest: Manifest, path: Path, *, sandbox: Sandbox, scratch: Path) -> None:
    """Write the manifest as a file system, padded to 4 KiB. ``scratch`` is an empty folder."""
    tar.write(manifest, scratch / "root.tar")
    path.unlink(missing_ok=True)
    mounts = [Mount(source=scratch, target="/work"), Mount(source=path.parent, target="/dest", writable=True)]
    # It leaves out the archive's entry for the root, so that must be said again; -root-time does nothing.
    root = ["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"]
    times = ["-mkfs-time", str(EPOCH), "-all-time", str(EPOCH)]
    options = ["-comp", "zstd", *times, *root, "-exit-on-error", "-quiet", "-no-progress"]
    command = ["sh", "-c", 'exec "$@" </work/root.tar', "sh", "sqfstar", *options, f"/dest/{path.name}"]
    sandbox.with_mounts(mounts).run(command)
