"""A remote file, read in exact ranges."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from blpo_dspy.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ReadRange = Callable[[int, int], bytes]

_THREADS = 8


class RangeFile(io.RawIOBase):
    """A read-only seekable file of a size that fetches the ranges that are read, or serves them from prefetched ones.

    `read_range` returns the bytes from `start` up to `stop`; it is called in several threads at once.
    """

    def __init__(self, read_range: ReadRange, size: int) -> None:
        self.size = size
        self._read_range = read_range
        self._position = 0
        self._prefetched: list[tuple[int, bytes]] = []

    def prefetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetches ranges (start, stop) in parallel to serve later reads from them; earlier ones are dropped."""
        clipped = [(max(start, 0), min(stop, self.size)) for start, stop in ranges]
        with ThreadPoolExecutor(_THREADS) as pool:
            fetched = pool.map(lambda span: self.read_at(*span), clipped)
            self._prefetched = [(start, data) for (start, _), data in zip(clipped, fetched, strict=True)]

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills the buffer, up to the end of the file."""
        view = memoryview(buffer).cast("B")
        start, stop = self._position, min(self._position + len(view), self.size)
        if stop <= start:
            return 0
        view[: stop - start] = self._from_prefetched(start, stop) or self.read_at(start, stop)
        self._position = stop
        return stop - start

    def _from_prefetched(self, start: int, stop: int) -> bytes | None:
        for first, data in self._prefetched:
            if first <= start and stop <= first + len(data):
                return data[start - first : stop - first]
        return None

    def read_at(self, start: int, stop: int) -> bytes:
        """Returns the bytes from `start` up to `stop`, whatever the current position; thread-safe."""
        data = self._read_range(start, stop) if stop > start else b""
        if len(data) != max(stop - start, 0):
            raise DataError(f"{len(data)} bytes were received for the range {start} to {stop}; try again")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to a position and returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """Returns the position."""
        return self._position

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True
