"""One writer at a time, where a store has no locks: an object that only one of them can make.

The object says who holds it and for how long without a sign of life. It is renewed while the fill runs. Whoever finds
one that has expired takes it over, by a request that the store refuses if the object has changed since. Both times are
the store's own, so no clock of a machine matters.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid

from bigin.core.disk import boot
from bigin.core.errors import FillError, InputError, LockedError, LockWarning, StoreError
from bigin.core.handlers import let_through
from bigin.core.warning import warn
from bigin.targets.objects.store import Stat, Store

EXPIRES = 60.0  # seconds without a renewal after which another writer may take over
RENEWED = 3  # so many times in that time
LAST = 5.0  # seconds that are waited for a renewal that is under way at the end


class StoreLock:
    """Holds a key for this writer alone, as long as the store honours create-only requests.

    Raises LockedError where another writer holds it, InputError where nothing may be written there.
    """

    def __init__(self, store: Store, key: str, label: str) -> None:
        self.store = store
        self.key = key
        self.label = label
        self.owner = uuid.uuid4().hex
        self.lost = ""
        self._held: Stat | None = None
        self._end = threading.Event()
        try:
            honoured = self._take()
        except PermissionError as error:
            raise InputError(
                f"{label}: expected permission to write there, got: {error.strerror}; check the credentials"
            ) from None
        except FileNotFoundError as error:
            raise InputError(f"{label}: expected an existing bucket, got: {error}; create it first") from None
        except StoreError as error:
            if error.passes:
                raise
            raise InputError(f"{label}: expected a store that takes objects, got: {error}") from None
        if not honoured:
            warn(
                f"{label}: this store does not honour create-only requests (If-None-Match), so no lock keeps other "
                "writers away; make sure that no other one writes",
                LockWarning,
            )
            return
        self._thread = threading.Thread(target=self._renew, name="bigin-lock", daemon=True)
        self._thread.start()

    def _text(self) -> bytes:
        told = {"owner": self.owner, **_here(), "process": os.getpid(), "expires": EXPIRES}
        return json.dumps(told).encode()

    def _take(self) -> bool:
        """Whether it is taken; not where the store makes an object that is there already once more."""
        for _ in range(3):  # the other may let go between two requests
            if self.store.create(self.key, self._text()):
                if self.store.create(self.key, self._text()):
                    self.store.delete(self.key)
                    return False
                break
            held = self.store.head(self.key)
            if held is None:
                continue
            told = self._told()
            if told.get("owner") == self.owner:  # an answer was lost, and obstore has asked again
                break
            if (_dead(told) or self._expired(held, told)) and self.store.update(self.key, self._text(), held):
                break
            raise LockedError(
                f"{self.label}: expected no other writer, got one that is at work{self._who()}; wait until it has "
                f"ended, or stop it: its lock expires {EXPIRES:.0f} seconds after that"
            )
        self._held = self.store.head(self.key)
        if self._owner() != self.owner:
            raise LockedError(f"{self.label}: expected no other writer, got one that has just begun; rerun the command")
        return True

    def _expired(self, held: Stat, told: dict[str, object]) -> bool:
        """Whether a lock is too old, by the store's time: that of an object that is made for it."""
        key = f"{self.key}.{self.owner}"
        try:
            now = self.store.head(key) if self.store.create(key, b"bigin") else None
        finally:
            self.store.delete(key)
        if now is None or held.modified is None or now.modified is None:
            return False
        expires = told.get("expires", EXPIRES)
        seconds = float(expires) if isinstance(expires, int | float) else EXPIRES
        return (now.modified - held.modified).total_seconds() > seconds

    def _told(self) -> dict[str, object]:
        try:
            told = json.loads(self.store.get(self.key) or b"{}")
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def _owner(self) -> object:
        return self._told().get("owner")

    def _who(self) -> str:
        told = self._told()
        return f" (process {told['process']} on {told['host']})" if "process" in told and "host" in told else ""

    def _renew(self) -> None:
        while not self._end.wait(EXPIRES / RENEWED):
            try:
                held = self._held
                renewed = held is not None and self.store.update(self.key, self._text(), held)
                if not renewed and self._owner() != self.owner:
                    self.lost = "another writer has taken over"
                    return
                self._held = self.store.head(self.key)
            except Exception as error:  # the next turn tries again
                let_through(error)

    def check(self) -> None:
        """Raises FillError where another writer has taken over."""
        if self.lost:
            raise FillError(f"{self.label}: {self.lost}, as this one had not renewed its lock; rerun the command")

    def release(self) -> None:
        """Lets others in."""
        self._end.set()
        if self._held is None:
            return
        self._thread.join(LAST)  # a renewal that is under way would outlive the process's end, and may not
        self._held = None
        try:
            if self._owner() == self.owner:
                self.store.delete(self.key)
        except Exception as error:  # it expires
            let_through(error)


def _here() -> dict[str, str]:
    """This machine, since it was started."""
    return {"host": socket.gethostname(), "boot": boot()}


def _dead(told: dict[str, object]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    process = told.get("process")
    if not isinstance(process, int) or any(told.get(key) != value for key, value in _here().items()):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
