"""One writer at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bigin.errors import InputError


class Lock:
    """Holds a file or a folder for this writer alone; nothing is left behind.

    Advisory: it keeps other writers of bigin away, readers and other programs not. On a file system without locks (some
    network file systems) it holds nothing.
    """

    def __init__(self, path: Path, label: str, *, wait: bool = False) -> None:
        """Raises InputError where another writer holds it, unless it should wait for that one."""
        self._fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.release()
            raise InputError(
                f"{label}: expected no other writer, but one is at work on it; wait until it has ended, or stop it"
            ) from None
        except OSError:
            pass  # no locks here

    def release(self) -> None:
        """Lets others in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
