"""Container images: an OCI image layout as one archive, which podman, skopeo and others read."""

import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiln import digest
from kiln.digest import Digest
from kiln.errors import KilnError
from kiln.sandbox import Mount, Sandbox
from kiln.trees import EPOCH

_TYPES = "application/vnd.oci.image"
# What Go, and so every reader of images, calls our architectures.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_CREATED = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
_ENV = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)


def write(
    tar: Path,
    path: Path,
    *,
    sandbox: Sandbox,
    scratch: Path,
    architecture: str,
    name: str,
    cmd: Sequence[str] = ("/bin/sh",),
    labels: Mapping[str, str] = {},
) -> None:
    """Write an image with one layer, the plain archive ``tar``, which is loaded as ``name`` with the tag "latest".

    ``architecture`` is a board's, ``cmd`` what a container runs, ``scratch`` an empty folder. Raises KilnError for a
    name that readers of images would not take.
    """
    if not _NAME.fullmatch(name):
        hint = "use a-z and 0-9, with one of . _ - between them"
        raise KilnError(f"{name!r} is no name of a container image", where=path.name, hint=hint)
    layer = scratch / "layer"
    mounts = [Mount(source=tar.parent, target="/inputs"), Mount(source=scratch, target="/dest", writable=True)]
    words = ["sh", "-c", 'exec gzip -9 -n < "$1" > "$2"', "sh", f"/inputs/{tar.name}", f"/dest/{layer.name}"]
    sandbox.with_mounts(mounts).run(words)
    platform = {"architecture": _ARCHITECTURES[architecture], "os": "linux"}
    config = digest.canonical(
        {
            **platform,
            "config": {"Cmd": list(cmd), "Env": list(_ENV), "Labels": dict(labels)},
            "created": _CREATED,
            "history": [{"created": _CREATED, "created_by": "kiln"}],
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.of_file(tar).hash}"]},
        }
    )
    packed = digest.of_file(layer)
    manifest = digest.canonical(
        {
            "schemaVersion": 2,
            "mediaType": f"{_TYPES}.manifest.v1+json",
            "config": _descriptor("config.v1+json", digest.of_bytes(config)),
            "layers": [_descriptor("layer.v1.tar+gzip", packed)],
        }
    )
    image = _descriptor("manifest.v1+json", digest.of_bytes(manifest)) | {"platform": platform}
    image["annotations"] = {"org.opencontainers.image.ref.name": f"{name}:latest"}
    index = {"schemaVersion": 2, "mediaType": f"{_TYPES}.index.v1+json", "manifests": [image]}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive, layer.open("rb") as file:
        _add(archive, "oci-layout", digest.canonical({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", digest.canonical(index))
        for blob in (manifest, config):
            _add(archive, f"blobs/sha256/{digest.of_bytes(blob).hash}", blob)
        archive.addfile(_entry(f"blobs/sha256/{packed.hash}", packed.size), file)


def _descriptor(kind: str, content: Digest) -> dict[str, Any]:
    return {"mediaType": f"{_TYPES}.{kind}", "digest": f"sha256:{content.hash}", "size": content.size}


def _add(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    archive.addfile(_entry(path, len(data)), io.BytesIO(data))


def _entry(path: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime = size, EPOCH
    return entry
