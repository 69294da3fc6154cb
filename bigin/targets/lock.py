"""One writer at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from bigin.core.errors import LockedError

PATIENCE = 20.0  # seconds to wait for a lock that is held for a moment only


class Lock:
    """Holds a file or a folder for this writer alone; nothing is left behind.

    Advisory: it keeps other writers of bigin away, readers and other programs not. On a file system without locks (some
    network file systems) it holds nothing.
    """

    def __init__(self, path: Path, label: str, *, wait: bool = False) -> None:
        """Raises LockedError where another writer holds it; with `wait` only if it does so for long."""
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        end = time.monotonic() + (PATIENCE if wait else 0)
        while not self._taken():
            if time.monotonic() >= end:
                self.release()
                raise LockedError(
                    f"{label}: expected no other writer, got one that is at work; wait until it has ended, or stop it"
                )
            time.sleep(0.01)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # no locks here
        return True

    def release(self) -> None:
        """Lets others in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
