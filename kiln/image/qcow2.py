"""Disks as compressed qcow2 images, for QEMU and those who serve it."""

from pathlib import Path

from kiln.sandbox import Mount, Sandbox


def write(disk: Path, path: Path, *, sandbox: Sandbox) -> None:
    """Write what the raw ``disk`` holds; clusters are compressed by zlib, which every reader of qcow2 knows."""
    mounts = [Mount(source=disk.parent, target="/inputs"), Mount(source=path.parent, target="/dest", writable=True)]
    # One worker, since more may finish in another order.
    words = ["qemu-img", "convert", "-m", "1", "-c", "-f", "raw", "-O", "qcow2"]
    sandbox.with_mounts(mounts).run([*words, f"/inputs/{disk.name}", f"/dest/{path.name}"])
