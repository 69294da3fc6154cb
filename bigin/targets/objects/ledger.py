"""What is remembered of objects that are written: the record, and the uploads whose parts are the progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bigin.core.errors import DamagedError, FillError, InputError, TargetError
from bigin.targets.ledger import Ledger
from bigin.targets.objects.errors import GoneError
from bigin.targets.objects.layout import ObjectLayout
from bigin.targets.objects.lock import StoreLock
from bigin.targets.objects.store import Store
from bigin.targets.objects.target import ObjectTarget
from bigin.targets.objects.uploads import Uploaded, Uploads
from bigin.targets.records import JournalEntry, Record, parse_record

STATE = ".bigin.upload"  # behind the key: the object that says what is being written
SIDECAR = ".bigin.json"  # behind the key of an array: its record
LOCK = ".bigin.lock"
AT_ONCE = 16  # requests


class ObjectLedger(Ledger):
    """The ledger of objects. While they are written, one more object beside them keeps the record and the uploads.

    No journal: the store lists the parts that it has. `key` is what those of the ledger's own begin with.
    """

    def __init__(self, target: ObjectTarget, key: str) -> None:
        super().__init__(target.label)
        self.target = target
        self.key = key
        self.store: Store = target.store
        self._turn: StoreLock | None = None
        self._held: Record | None = None  # the state, once it is known
        target.written = self

    @property
    def uploads(self) -> Uploads:
        """How the store writes in parts; raises TargetError where it does not."""
        if self.store.uploads is None:
            raise TargetError(f"{self.label}: expected a store that can be written in parts, got one that is read only")
        return self.store.uploads

    def lock(self) -> None:
        """An object that only one writer can make."""
        if self._turn is None:
            _ = self.uploads
            self._turn = StoreLock(self.store, self.key + LOCK, self.label)
            self._held = None

    def _state(self) -> Record | None:
        if self._held is None:
            data = self.store.get(self.key + STATE)
            self._held = None if data is None else parse_record(data)
        return self._held

    def _keep_state(self, state: Record) -> None:
        self.store.put(self.key + STATE, json.dumps(state).encode())
        self._held = state
        self.target.uploading = dict(state["uploads"])

    def record(self) -> Record | None:
        """That of what is being written, else that of what is there."""
        state = self._state()
        return self.finished() if state is None else dict(state["record"])

    def finished(self) -> Record | None:
        """The record of what is there."""
        data = self.store.get(self.key + SIDECAR)
        return None if data is None or self.store.head(self.key) is None else parse_record(data)

    def keep_finished(self, record: Record) -> None:
        """Keeps the record of what is there now."""
        self.store.put(self.key + SIDECAR, json.dumps(record, indent=2).encode() + b"\n")

    def begin(self, record: Record) -> None:
        """Gives up what another fill has begun, and begins an upload of every object."""
        self.abandon()
        before = dict(zip(self._keys(), self._side_by_side(self._tag, self._keys()), strict=True))
        begun = dict(zip(self._keys(), self._side_by_side(self.uploads.begin, self._keys()), strict=True))
        sizes = {layout.key: layout.part for layout in self.target.layouts}
        self._keep_state({"record": record, "uploads": begun, "before": before, "parts": sizes})

    def _keys(self) -> list[str]:
        return [layout.key for layout in self.target.layouts]

    def _tag(self, key: str) -> str:
        stat = self.store.head(key)
        return "" if stat is None else stat.tag

    def _side_by_side(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if len(items) == 1:
            return [function(items[0])]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(function, items))

    def resume(self) -> None:
        """Goes on with the uploads; those that the store has dropped are begun again."""
        state = self._state()
        if state is None:
            raise InputError(
                f"{self.label}: expected a fill that was interrupted, got a finished object, which cannot be changed "
                "in place; fill it again with --overwrite (overwrite=True)"
            )
        self.load()
        gone = [layout for layout, held in zip(self.target.layouts, self._held_parts(), strict=True) if held is None]
        again = [layout.key for layout in gone if not self._completed(layout)]
        if again:
            begun = dict(zip(again, self._side_by_side(self.uploads.begin, again), strict=True))
            self._keep_state(state | {"uploads": state["uploads"] | begun})

    def load(self) -> None:
        """What another call or process has begun."""
        state = self._state()
        if state is None:
            raise DamagedError(f"{self.label}: expected a fill that is under way, got none; rerun the command")
        self.target.uploading = dict(state["uploads"])

    def _held_parts(self) -> list[dict[int, Uploaded] | None]:
        uploading = self.target.uploading
        return self._side_by_side(
            lambda layout: self.uploads.parts(layout.key, uploading[layout.key]), self.target.layouts
        )

    def _completed(self, layout: ObjectLayout) -> bool:
        """Whether an object was made of its parts: it is there with its size, and is another one than before."""
        stat = self.store.head(layout.key)
        before = (self._state() or {}).get("before", {}).get(layout.key)
        return stat is not None and stat.size == layout.size and stat.tag != before

    def left(self) -> list[int]:
        """The regions of the grid whose parts the store does not have."""
        left: list[int] = []
        first = 0
        if self._state() is None:
            return left
        self.load()
        for layout, held in zip(self.target.layouts, self._held_parts(), strict=True):
            if held is not None or not self._completed(layout):
                left += [first + number - 1 for number in _missing(layout, held or {})]
            first += layout.count
        return left

    def clean(self) -> None:
        """Nothing is left behind: as long as there is a state, the fill is not complete."""

    def forget_state(self) -> None:
        """Removes what says that something is being written."""
        self.store.delete(self.key + STATE)
        self._held = None
        self.target.uploading = {}

    def checkpoint(self, progress: JournalEntry) -> None:
        """The store lists the parts; only the lock is looked at."""
        if self._turn is not None:
            self._turn.check()

    def progress(self) -> JournalEntry | None:
        return None

    def forget(self) -> None:
        """There is nothing to forget."""

    def abandon(self) -> None:
        """Gives up the uploads that were begun, and their parts."""
        state = self._state()
        if state is None:
            return
        self._side_by_side(lambda upload: self.uploads.abort(*upload), list(state["uploads"].items()) or [])
        self.forget_state()

    def finish(self, record: Record) -> None:
        """Makes the objects of their parts, then keeps the complete record."""
        self.checkpoint({})
        if self._state() is not None:
            self.load()
            self._side_by_side(self._complete, self._last_first())
        self.keep_finished(record)
        self.forget_state()

    def _last_first(self) -> list[ObjectLayout]:
        return list(reversed(self.target.layouts))

    def _complete(self, layout: ObjectLayout) -> None:
        upload = self.target.uploading[layout.key]
        held = self.uploads.parts(layout.key, upload)
        if held is None and self._completed(layout):
            return
        missing = _missing(layout, held or {})
        if missing:
            raise FillError(
                f"{self.label}: expected {layout.count} parts in the store, got {layout.count - len(missing)}; rerun "
                "the same command, which sends the others"
            )
        wanted = {number: part for number, part in (held or {}).items() if number <= layout.count}
        try:
            self.uploads.complete(layout.key, upload, wanted)
        except GoneError:
            if not self._completed(layout):
                raise
        stat = self.store.head(layout.key)
        if stat is None or stat.size != layout.size:
            raise DamagedError(
                f"{self.label}: expected an object of {layout.size} bytes, got {0 if stat is None else stat.size}; "
                "check the store and rerun the same command"
            )

    def close(self) -> None:
        """Lets other writers in."""
        if self._turn is not None:
            self._turn.release()
            self._turn = None
        super().close()


def _missing(layout: ObjectLayout, held: dict[int, Uploaded]) -> list[int]:
    """The numbers of the parts that a store does not have with their sizes."""

    def there(number: int) -> bool:
        start, stop = layout.span(number)
        return number in held and held[number].size == stop - start

    return [number for number in range(1, layout.count + 1) if not there(number)]
