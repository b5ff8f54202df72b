"""The compressors whose initramfs a kernel unpacks: told by their first bytes, and run in pieces."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import lz4.block
import lz4.frame
import lzallright
from backports import zstd
from backports.zstd import CompressionParameter, DecompressionParameter

from kiln.errors import KilnError, nearest
from kiln.initramfs.stream import PIECE, Stream

NONE = "none"
# lz4's own frames: kernels know its legacy format alone.
LZ4_FRAME = "lz4-frame"

# The sizes that lib/decompress_unlz4.c and lib/decompress_unlzo.c of the kernel hold at once, in bytes.
_LZ4_BLOCK = 8 << 20
_LZO_BLOCK = 256 << 10

# What the kernel's unzstd takes, as a power of two.
_ZSTD_WINDOW = 27
# A dictionary that needs more is no initramfs's, in bytes.
_LZMA_MEMORY = 128 << 20

_LZ4_MAGIC = 0x184C2102
_LZOP = b"\x89LZO\x00\r\n\x1a\n"
# Its version, that of its library, the one needed to unpack, method LZO1X-1, level, flags (Unix, Adler of what is
# unpacked: the kernel skips just one checksum), mode, twice the time, no name.
_LZOP_FIELDS = struct.pack(">HHHBBIIIIB", 0x1030, 0x2080, 0x0940, 1, 5, 0x03000001, 0o100644, 0, 0, 0)
# In their flags: checksums of what is unpacked (Adler, CRC) and of what is packed, a filter, a CRC of the header.
_LZOP_UNPACKED, _LZOP_PACKED, _LZOP_FILTER, _LZOP_OLD = (0x1, 0x100), (0x2, 0x200), 0x800, 0x0940


class Packer(Protocol):
    """Bytes go in by ``compress`` and come out by both."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /, max_length: int = ...) -> bytes: ...


@dataclass(frozen=True)
class Compressor:
    """``magic`` are its first bytes; ``unpack`` gives what is in a stream that stands on them, and ends behind it."""

    name: str
    magic: bytes
    unpack: Callable[[Stream], Iterator[bytes]]
    packer: Callable[[], Packer]


def find(stream: Stream) -> Compressor | None:
    """The compressor whose bytes come next."""
    start = stream.peek(len(_LZOP))
    return next((item for item in _ALL.values() if item.magic and start.startswith(item.magic)), None)


def named(name: str) -> Compressor:
    """Raises KilnError for a name that no kernel knows."""
    if name not in _ALL or name == LZ4_FRAME:
        raise KilnError(f"there is no compressor {name!r}", hint=nearest(name, NAMES))
    return _ALL[name]


class _Gzip:
    """zlib's object with the manners of the other ones."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    eof = property(lambda self: self._inner.eof)
    unused_data = property(lambda self: self._inner.unused_data)
    needs_input = property(lambda self: not self._full and not self._inner.unconsumed_tail)

    def decompress(self, data: bytes, /, max_length: int = 0) -> bytes:
        found = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._full = len(found) == max_length
        return found


def _with(make: Callable[[], _Unpacker]) -> Callable[[Stream], Iterator[bytes]]:
    def unpack(stream: Stream) -> Iterator[bytes]:
        unpacker = make()
        most = 1 << 12  # what is given back costs time, where a file has many small segments
        while not unpacker.eof:
            data = b""
            if unpacker.needs_input:
                data = stream.some(most)
                if not data:
                    raise stream.error("the compressed data ends too early", hint=_CUT)
                most = min(2 * most, PIECE)
            try:
                piece = unpacker.decompress(data, max_length=PIECE)
            except lzma.LZMAError as error:
                message = "it was packed for more memory than kernels have" if "emory" in str(error) else str(error)
                raise _damaged(stream, message) from error
            except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zstd.ZstdError) as error:
                raise _damaged(stream, str(error)) from error
            if piece:
                yield piece
        stream.unread(unpacker.unused_data or b"")

    return unpack


def _unpack_lz4(stream: Stream) -> Iterator[bytes]:
    """lz4's legacy format, as the kernel reads it: blocks up to a size of 0, or the end of the file."""
    while len(stream.peek(4)) == 4:
        (size,) = struct.unpack("<I", stream.peek(4))
        if size == 0:
            return
        stream.some(4)
        if size == _LZ4_MAGIC:
            continue
        if size > _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16:
            raise stream.error("behind lz4 data there is something else", hint="kernels want four zero bytes between")
        data = stream.read(size, "a block of lz4")
        try:
            yield lz4.block.decompress(data, uncompressed_size=_LZ4_BLOCK)
        except lz4.block.LZ4BlockError as error:
            raise _damaged(stream, str(error)) from error


def _unpack_lzo(stream: Stream) -> Iterator[bytes]:
    """The format of lzop."""
    stream.read(len(_LZOP), "the header of lzop")
    version, _, _, _ = struct.unpack(">HHHB", stream.read(7, "the header of lzop"))
    stream.read(int(version >= _LZOP_OLD), "the header of lzop")
    (flags,) = struct.unpack(">I", stream.read(4, "the header of lzop"))
    rest = (4 if flags & _LZOP_FILTER else 0) + (12 if version >= _LZOP_OLD else 8)
    length = stream.read(rest + 1, "the header of lzop")[-1]
    stream.read(length + 4, "the header of lzop")
    while True:
        (size,) = struct.unpack(">I", stream.read(4, "lzop's data"))
        if size == 0:
            return
        (packed,) = struct.unpack(">I", stream.read(4, "lzop's data"))
        if size > _LZO_BLOCK or not 0 < packed <= size:
            raise _damaged(stream, f"a block of {packed} for {size} bytes")
        sums = sum(bool(flags & flag) for flag in _LZOP_UNPACKED)
        sums += sum(bool(flags & flag) for flag in _LZOP_PACKED) if packed < size else 0
        stream.read(4 * sums, "lzop's data")
        data = stream.read(packed, "lzop's data")
        try:
            found = data if packed == size else lzallright.LZOCompressor.decompress(data, size)
        except lzallright.LZOError as error:
            raise _damaged(stream, str(error)) from error
        if len(found) != size:
            raise _damaged(stream, f"a block of {len(found)} bytes instead of {size}")
        yield found


class _Blocks:
    """A packer of equal blocks, with ``start`` in front and ``end`` behind."""

    def __init__(self, size: int, pack: Callable[[bytes], bytes], start: bytes, end: bytes) -> None:
        self._size, self._pack, self._end = size, pack, end
        self._held = bytearray()
        self._made = start

    def compress(self, data: bytes, /) -> bytes:
        self._held += data
        while len(self._held) >= self._size:
            self._made += self._pack(bytes(self._held[: self._size]))
            del self._held[: self._size]
        made, self._made = self._made, b""
        return made

    def flush(self) -> bytes:
        return self._made + (self._pack(bytes(self._held)) if self._held else b"") + self._end


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _lz4_block(data: bytes) -> bytes:
    packed = lz4.block.compress(data, mode="high_compression", compression=9, store_size=False)
    return struct.pack("<I", len(packed)) + bytes(packed)


def _lzo_block(data: bytes) -> bytes:
    packed = lzallright.LZOCompressor().compress(data)
    if len(packed) >= len(data):
        packed = data
    return struct.pack(">III", len(data), len(packed), zlib.adler32(data)) + packed


def _lzo() -> Packer:
    start = _LZOP + _LZOP_FIELDS + struct.pack(">I", zlib.adler32(_LZOP_FIELDS))
    return _Blocks(_LZO_BLOCK, _lzo_block, start, bytes(4))


def _zstd() -> Packer:
    # As images are packed. The bytes are the same for any number of workers but none.
    options: dict[int, int] = {
        CompressionParameter.compression_level: 10,
        CompressionParameter.enable_long_distance_matching: 1,
        CompressionParameter.window_log: 24,
        CompressionParameter.checksum_flag: 1,
        CompressionParameter.nb_workers: 2,
    }
    return zstd.ZstdCompressor(options=options)


def _xz() -> Packer:
    # What the kernel's own makefiles use: another checksum is not looked at, and memory is short when it unpacks.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
    return lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def _unlzma(format: int) -> Callable[[], Any]:
    return lambda: lzma.LZMADecompressor(format=format, memlimit=_LZMA_MEMORY)


def _unzstd() -> _Unpacker:
    return zstd.ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW})


def _damaged(stream: Stream, problem: str) -> KilnError:
    return stream.error(f"the compressed data is damaged ({problem})", hint="copy or make it again")


def _lz4() -> Packer:
    return _Blocks(_LZ4_BLOCK, _lz4_block, struct.pack("<I", _LZ4_MAGIC), b"")


_CUT = "it was cut short: copy or make it again"
_ALL = {
    item.name: item
    for item in (
        Compressor(NONE, b"", lambda stream: iter(stream.some, b""), _Plain),
        Compressor("gzip", b"\x1f\x8b", _with(_Gzip), lambda: zlib.compressobj(9, wbits=31)),
        Compressor("bzip2", b"BZh", _with(bz2.BZ2Decompressor), bz2.BZ2Compressor),
        Compressor(
            "lzma",
            b"\x5d\x00",
            _with(_unlzma(lzma.FORMAT_ALONE)),
            lambda: lzma.LZMACompressor(format=lzma.FORMAT_ALONE),
        ),
        Compressor("xz", b"\xfd7zXZ\x00", _with(_unlzma(lzma.FORMAT_XZ)), _xz),
        Compressor("lzo", _LZOP, _unpack_lzo, _lzo),
        Compressor("lz4", b"\x02\x21\x4c\x18", _unpack_lz4, _lz4),
        Compressor("zstd", b"\x28\xb5\x2f\xfd", _with(_unzstd), _zstd),
        Compressor(LZ4_FRAME, b"\x04\x22\x4d\x18", _with(lz4.frame.LZ4FrameDecompressor), _lz4),
    )
}
NAMES = tuple(name for name in _ALL if name != LZ4_FRAME)
