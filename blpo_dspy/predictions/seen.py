"""What image files held when they were last read, so that a later call need not read those that stay as they were."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection
from pathlib import Path

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.inputs import Print, content_key, print_of, read_images
from blpo_dspy.data.rows import Draft
from blpo_dspy.workspace.store import Store

# A file that was modified so shortly before it was read may change again without another time of modification: file
# systems keep it in steps of up to 2 s.
_RACY_NS = 2_000_000_000


class SeenFiles:
    """The hashes of image files with their states (size, times, inode), as git's index has them.

    A hash is used only where it leads to a verdict that there is already: what is judged is read.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, str] = dict(store.rows("SELECT path, state FROM files"))
        self._now: dict[str, str] = {}

    def content(self, draft: Draft, done: Collection[str]) -> tuple[str, list[Print]]:
        """Returns the key of a row's content and the hashes of its images, which are read unless the key is in `done`.

        Raises:
            ImageError: If the row cannot be used, or an image cannot be read.
        """
        now = time.time_ns()
        states = [None if draft.problems else _state(source, now) for _, source in draft.images]
        known = [self._known.get(state[0], "") if state else "" for state in states]
        if states and all(state and entry[65:] == state[1] for state, entry in zip(states, known, strict=True)):
            prints = [("bytes", entry[:64]) for entry in known]
            key = content_key(draft, prints)
            if key in done:
                self._now.update((state[0], entry) for state, entry in zip(states, known, strict=True) if state)
                return key, prints
        prints = list(map(print_of, read_images(draft)))
        for state, (_, digest) in zip(states, prints, strict=True):
            if state and state[2]:
                self._now[state[0]] = f"{digest} {state[1]}"
        return content_key(draft, prints), prints

    def unchanged(self, draft: Draft) -> bool:
        """Whether all images of a row are files that are as they were when this call read them."""
        states = [_state(source, 0) for _, source in draft.images]
        return all(state and self._now.get(state[0], "")[65:] == state[1] for state in states)

    def save(self) -> None:
        """Keeps the hashes of the files that this call has seen.

        Raises:
            StoreError: If they cannot be written.
        """
        changed = [(path, state) for path, state in self._now.items() if self._known.get(path) != state]
        if changed:
            self._store.write_many("INSERT OR REPLACE INTO files VALUES (?, ?)", changed)


def _state(source: ImageSource, now: int) -> tuple[str, str, bool] | None:
    """The path of a file, its state, and whether that tells it from what it may become; None for any other source."""
    if not isinstance(source, (str, Path)):
        return None
    path = os.fspath(source)
    if "://" in path or path[:5].lower() == "data:":
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # which reading it reports
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
    return path, state, found.st_mtime_ns < now - _RACY_NS
