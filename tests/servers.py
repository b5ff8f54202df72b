"""Places to fetch from: an HTTP server that can fail, a git repository, and archives."""

import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """A file of the server. ``faults`` are used up, one a request.

    ``"cut N"`` closes the connection after N bytes, ``"stall N"`` goes silent, ``"status N"`` answers with that status,
    ``"shift"`` answers a range with another one.
    """

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    faults: list[str] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path; ``asked`` has the path and the range of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, path: str, data: bytes) -> Served:
        self.files[path] = Served(data)
        return self.files[path]

    def add_folder(self, path: str, folder: Path) -> None:
        for file in folder.rglob("*"):
            if file.is_file():
                self.add(f"{path}/{file.relative_to(folder)}", file.read_bytes())


@contextmanager
def serve() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        wanted = self.headers.get("Range")
        self.server.asked.append((path, wanted))
        file = self.server.files.get(path)
        fault, _, number = (file.faults.pop(0) if file and file.faults else "").partition(" ")
        if file is None or fault == "status":
            self.send_error(int(number) if number else 404)
            return
        start = 0
        if wanted and file.ranges and self.headers.get("If-Range") in (file.etag, file.modified):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(file.data):
                self.send_error(416)
                return
            self.send_response(206)
            first = start + 1 if fault == "shift" else start
            self.send_header("Content-Range", f"bytes {first}-{len(file.data) - 1}/{len(file.data)}")
        else:
            self.send_response(200)
        if file.etag:
            self.send_header("ETag", file.etag)
        if file.modified:
            self.send_header("Last-Modified", file.modified)
        self.send_header("Content-Length", str(len(file.data) - start))
        self.end_headers()
        end = start + int(number) if fault in ("cut", "stall") else len(file.data)
        self.wfile.write(file.data[start:end])
        self.wfile.flush()
        if fault == "stall":
            self.server.closing.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Repository:
    """A bare git repository with one commit for each ``commit()``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work = path.with_name(f"{path.name}-work")
        self._work.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        subprocess.run(["git", "clone", "--quiet", "--bare", self._work, path], check=True, capture_output=True)

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def commit(self, files: Mapping[str, str], *, tag: str, annotated: bool = False) -> str:
        """Commit and tag these files (``-> target`` is a link, ``#!`` begins an executable) and return the commit."""
        for name, text in files.items():
            path = self._work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text[3:])
            else:
                path.write_text(text)
                path.chmod(0o755 if text.startswith("#!") else 0o644)
        self._git("add", "--all", "--force")
        self._git("commit", "--quiet", "--message", tag)
        self._git("tag", *(["--annotate", "--message", tag] if annotated else []), tag)
        self._git("push", "--quiet", os.fspath(self.path), "main", tag)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *words: str) -> str:
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_NAME": "Test", f"GIT_{role}_EMAIL": "test@example.org"}
        return subprocess.run(
            ["git", *words], cwd=self._work, env=env, check=True, capture_output=True, text=True
        ).stdout


def member(name: str, text: str = "", *, type: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> bytes:
    """One member of a tar archive, as it stands in the file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = type, link, mode, len(text.encode())
    return info.tobuf() + text.encode() + bytes(-info.size % 512)


def tarball(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


def tarball_of(files: Mapping[str, str], *, top: str = "top") -> bytes:
    """A gzipped archive of files in one leading folder, written as in ``Repository.commit``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            if text.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, text[3:]
            else:
                info.size, info.mode = len(text.encode()), 0o755 if text.startswith("#!") else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()
