"""Compression of finished archives."""

from dataclasses import replace
from pathlib import Path

from kiln.sandbox import Mount, Sandbox


def compress(source: Path, path: Path, sandbox: Sandbox) -> None:
    """Compress a file with zstd into ``path``; the kernel can unpack it, and equal input gives equal output."""
    inside = replace(
        sandbox,
        mounts=(
            Mount(source=source.parent, target="/inputs"),
            Mount(source=path.parent, target="/dest", writable=True),
        ),
    )
    inside.run(["zstd", "-19", "-T1", "-q", "-f", f"/inputs/{source.name}", "-o", f"/dest/{path.name}"])
