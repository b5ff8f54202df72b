"""Archives to folders: nothing in an archive can reach outside the folder that it is unpacked into."""

import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO

from kiln.errors import KilnError
from kiln.trees import remove

# What version control keeps beside the sources: a git tag has it, a release tarball often does not.
_METADATA = {".git", ".gitattributes", ".gitignore", ".gitmodules"}

# How a Debian package begins.
_AR = b"!<arch>\n"


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error; tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error


def unpack(archive: Path, into: Path) -> None:
    """Unpack a tar archive (gz, bz2, xz, or zst where this Python reads it), without the one folder that holds it all.

    Of a Debian package, it is what that installs. Files get mode 644 or 755. Raises KilnError for a damaged archive and
    for members that are not files, folders or links inside ``into``.
    """
    name = ""
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into) as holder, archive.open("rb") as file, _opened(file) as tar:
            links: dict[str, str] = {}
            for member in tar:
                name = member.name
                _extract(tar, member, holder, _inside(name), links)
            name = ""
            for path, target in links.items():
                os.symlink(target, os.path.join(holder, path))
            tops = list(os.scandir(holder))
            lone = len(tops) == 1 and tops[0].is_dir(follow_symlinks=False)
            root = os.path.realpath(tops[0] if lone else holder)
            for path, target in links.items():
                end = os.path.realpath(os.path.join(holder, path))
                if os.path.isabs(target) or os.path.commonpath([root, end]) != root:
                    raise KilnError(f"{path} is a link that leads outside, to {target}")
            for child in os.listdir(root):
                os.rename(os.path.join(root, child), into / child)
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        with archive.open("rb") as file:
            zst = file.read(4) == b"\x28\xb5\x2f\xfd"
        why = f"is damaged or no tar archive: {str(error).splitlines()[0]}"
        if zst and "zst" not in tarfile.TarFile.OPEN_METH:
            why = "is a zst archive, which Python reads since 3.14"
        raise KilnError(why, where=os.fspath(archive)) from error
    except (OSError, ValueError) as error:
        raise KilnError(f"cannot unpack {name or 'it'}: {error}", where=os.fspath(archive)) from error
    except KilnError as error:
        error.where = os.fspath(archive)
        raise


def data_member(file: BinaryIO) -> BinaryIO:
    """The stream of the ``data.tar`` inside a Debian package, which is an ``ar`` archive."""
    if file.read(len(_AR)) != _AR:
        raise KilnError("is not a Debian package", where=file.name)
    while header := file.read(60):
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        if name == "data.tar.xz":
            return lzma.LZMAFile(file)  # type: ignore[return-value]
        file.seek(size + size % 2, os.SEEK_CUR)
    raise KilnError("holds no data.tar.xz", where=file.name)


def normalise(root: Path) -> None:
    """Remove version-control metadata and empty folders, so that a git tag and its tarball give the same tree."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in _METADATA.intersection(folders + files):
            remove(Path(folder, name))
        if folder != os.fspath(root) and not os.listdir(folder):
            os.rmdir(folder)


def write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
    """Write the bytes of a plain file to ``place``, with mode 644 or 755."""
    source = tar.extractfile(member)
    assert source
    file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755 if member.mode & 0o100 else 0o644)
    with os.fdopen(file, "wb", buffering=0) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _opened(file: BinaryIO) -> tarfile.TarFile:
    package = file.read(len(_AR)) == _AR
    file.seek(0)
    if package:
        return tarfile.open(fileobj=data_member(file), mode="r|", tarinfo=_Member)
    return tarfile.open(fileobj=file, tarinfo=_Member)


def _inside(name: str) -> str:
    """The member's name without ``.`` and double slashes, if it stays below the folder."""
    if name.startswith("/"):
        raise KilnError(f"{name} has an absolute name")
    if ".." in name.split("/"):
        raise KilnError(f"{name} has '..' in its name")
    return os.path.normpath(name)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, into: str, path: str, links: dict[str, str]) -> None:
    """Make one member. Links are only noted in ``links``: as long as there are none, none can be written through."""
    place = os.path.join(into, path)
    if member.isdir():
        os.makedirs(place, exist_ok=True)
        return
    if not os.path.isdir(os.path.dirname(place)):
        os.makedirs(os.path.dirname(place))
    links.pop(path, None)
    if member.issym():
        links[path] = member.linkname
    elif member.islnk():
        target = _inside(member.linkname)
        if target in links:
            links[path] = links[target]
        else:
            shutil.copy(os.path.join(into, target), place)
    elif member.isreg():
        write(tar, member, place)
    else:
        raise KilnError(f"{member.name} is not a file, a folder or a link")
