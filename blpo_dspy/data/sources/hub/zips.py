"""Single members of a zip archive that may be on a server: only what is read is fetched."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.sources.hub.names import NameIndex
from blpo_dspy.data.sources.hub.ranges import RangeFile
from blpo_dspy.errors import DataError

_TAIL = 1 << 16  # bytes; covers the end record of any archive and the directory of a small one
_HEADER = 30 + 64  # bytes; a local file header, and room for what its extra field has beyond the directory's
_LARGEST = 256 * 2**20  # bytes; an image within any sensible pixel limit is smaller
_AT_ONCE = 16  # members held in memory

# What zipfile raises on damaged, encrypted (RuntimeError) or exotic archives.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)


class ZipImages:
    """The members of a zip archive, which messages call by its name; it is opened when it is first read."""

    def __init__(self, open_file: Callable[[], RangeFile], name: str) -> None:
        self._open = open_file
        self._name = name

    @cached_property
    def _file(self) -> RangeFile:
        return self._open()

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        self._file.prefetch([(self._file.size - _TAIL, self._file.size)])
        try:
            return zipfile.ZipFile(self._file)
        except DataError:
            raise  # an error of the server, not of the archive
        except _DAMAGE as error:
            raise DataError(f"{self._name}: not a complete zip archive ({error}); fetch it again") from None

    @cached_property
    def _index(self) -> NameIndex[zipfile.ZipInfo]:
        # ZipInfo.is_dir() of older Pythons fails on an empty name.
        files = (info for info in self._zip.infolist() if not info.filename.endswith("/"))
        return NameIndex((_member_name(info), info) for info in files)

    def read(self, names: Sequence[str], folder: str = "") -> Iterator[bytes | ImageError]:
        """Yields for each name, in order, the bytes of the member or the error."""
        for start in range(0, len(names), _AT_ONCE):
            found = [self._find(name, folder) for name in names[start : start + _AT_ONCE]]
            self._file.prefetch([_extent(info) for info in found if isinstance(info, zipfile.ZipInfo)])
            for info in found:
                yield info if isinstance(info, ImageError) else self._unpack(info)

    def _find(self, name: str, folder: str) -> zipfile.ZipInfo | ImageError:
        try:
            info = self._index.find(name, folder)
        except ImageError as error:
            return error
        if max(info.file_size, info.compress_size) > _LARGEST:
            return ImageError(f"larger than {_LARGEST >> 20} MiB", name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return ImageError(f"compressed by method {info.compress_type}, which is not supported", name)
        return info

    def _unpack(self, info: zipfile.ZipInfo) -> bytes | ImageError:
        try:
            return self._zip.read(info)
        except DataError:
            raise
        except _DAMAGE as error:
            return ImageError(f"cannot be unpacked ({error})", info.filename)


def _extent(info: zipfile.ZipInfo) -> tuple[int, int]:
    """The byte range of a member; its local header repeats the name and the extra field of the directory, nearly."""
    length = _HEADER + len(info.filename.encode()) + len(info.extra) + info.compress_size
    return info.header_offset, info.header_offset + length


def _member_name(info: zipfile.ZipInfo) -> str:
    """The name of a member; without the flag for UTF-8, zipfile reads as CP437 what many packers wrote as UTF-8."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename
