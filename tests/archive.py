"""A small Debian archive: files in its pool, and an index that nobody signed."""

import hashlib
import lzma

from kiln.source.debian import pool_path
from tests.servers import Server


class DebianArchive:
    """Lies at ``url`` of a server; ``add`` puts a source file into it, ``publish`` writes the index of ``suite``."""

    def __init__(self, server: Server) -> None:
        self.url = f"{server.url}/debian"
        self._server = server
        self._stanzas: list[str] = []

    def add(self, file: str, data: bytes, *, suite: str = "unstable", there: bool = True) -> str:
        """Put a file into the pool, or only list it; returns its SHA-256."""
        sha256, name = hashlib.sha256(data).hexdigest(), file.partition("_")[0]
        if there:
            self._server.add(f"/debian/{pool_path(file)}", data)
        listed = f"Checksums-Sha256:\n {'0' * 64} 9 {name}_1-1.dsc\n {sha256} {len(data)} {file}\n"
        self._stanzas.append(f"Package: {name}\nVersion: 1-1\n{listed}")
        self.publish(suite)
        return sha256

    def publish(self, suite: str = "unstable") -> None:
        sources = lzma.compress("\n".join(self._stanzas).encode())
        sha256 = hashlib.sha256(sources).hexdigest()
        release = f"Suite: {suite}\nSHA256:\n {sha256} {len(sources)} main/source/Sources.xz\n"
        self._server.add(f"/debian/dists/{suite}/InRelease", release.encode())
        self._server.add(f"/debian/dists/{suite}/main/source/Sources.xz", sources)
