"""The bytes of an image for a browser: an image by its content, checked, without metadata, at its full size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from blpo_dspy.data.images.encoding import PixelLimits, conform
from blpo_dspy.data.images.prepare import ImageError, ImageSource, content
from blpo_dspy.errors import brief

_LIMITS = PixelLimits(max_side=8192, max_bytes=64 * 2**20)
_KEPT = 8
_AT_ONCE = 4
_MOST_WAITING = 64


class BusyError(Exception):
    """Too many images are being prepared."""


class Pictures:
    """Prepares images in threads, a bounded number at once.

    Args:
        sources: Returns the images of an item.
    """

    def __init__(self, sources: Callable[[int], list[tuple[str, ImageSource]]]) -> None:
        self._sources = sources
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._prepared = lru_cache(_KEPT)(self._prepare)

    async def get(self, position: int, number: int) -> tuple[str, bytes]:
        """Returns the media type and the bytes of an image.

        Raises:
            LookupError: If there is no such image.
            ImageError: If it can't be shown; no path is in the text.
            BusyError: If too many are asked for at once.
        """
        if self._waiting >= _MOST_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(self._prepared, position, number)
        finally:
            self._waiting -= 1

    def _prepare(self, position: int, number: int) -> tuple[str, bytes]:
        source = self._sources(position)[number][1]
        try:
            found = content(source)
            assert isinstance(found, bytes), "an item with an image by URL is refused at the start"
            return conform(found, _LIMITS)
        except ImageError as error:
            name = Path(source).name if isinstance(source, (str, Path)) and len(str(source)) < 4096 else "the image"
            raise ImageError(brief(error.reason), brief(name)) from error
