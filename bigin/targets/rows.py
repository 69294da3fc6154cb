"""The rows of a table in a target: read and written by their ids, and more of them added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bigin.core.regions import Region, Tail
from bigin.targets.records import Record
from bigin.targets.target import Array, Target

AT_ONCE = 8  # reads that wait for the disk together: 2000 cold rows took 0.45 s one by one, and 0.14 s so


def at_once(read: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Runs several reads concurrently, as they mostly wait for the disk."""
    if len(parts) == 1:
        read(parts[0])
    elif parts:
        with ThreadPoolExecutor(min(AT_ONCE, len(parts))) as pool:
            list(pool.map(read, parts))


class Rows(ABC):
    """The rows of a 2-d target, whose shape says how many there are.

    Growing is done in steps of which each leaves a valid table behind, whenever the process is killed:
    `keep` a record that says how far; `reserve`; fill the regions of `grown`, which no reader of the old shape looks
    at, or which hold the old rows as they were; `sync`; `commit` the new shape and its record. `discard` takes back
    what was not committed.
    """

    def __init__(self, target: Target) -> None:
        self.target = target

    def read(self, region: Region) -> Array:
        """The values of any region, in no more memory than the target takes to write one."""
        return self.target.read(region)

    @abstractmethod
    def gather(self, ids: Array) -> Array:
        """The values of rows in the order asked: ids of shape (n,) to values of shape (n, elements of a row)."""

    @abstractmethod
    def scatter(self, ids: Array, values: Array) -> Array:
        """Writes rows in place where the layout allows; ids sorted and distinct. Returns the ids that are left."""

    @abstractmethod
    def holders(self, ids: Array) -> Sequence[Region]:
        """The regions of the target that hold rows, to replace them whole; ids sorted."""

    @abstractmethod
    def grown(self, rows: int, *, begun: bool = False) -> tuple[Target, Tail]:
        """The target with that many rows and its regions that hold new ones; changes nothing.

        begun: some of them may be there, of the same grow. Raises InputError where the table cannot have so many.
        """

    @abstractmethod
    def reserve(self, grown: Target) -> None:
        """Opens the larger target and reserves its space; raises InputError where there is none."""

    @abstractmethod
    def keep(self, record: Record) -> None:
        """Replaces the record."""

    @abstractmethod
    def sync(self, regions: Sequence[Region]) -> None:
        """Brings the rows that lie in regions of the target's grid to the disk."""

    @abstractmethod
    def commit(self, rows: int, record: Record, *, sync: bool) -> None:
        """Makes the new rows a part of the array, then replaces the record; with `sync` both have reached the disk."""

    @abstractmethod
    def discard(self, rows: int) -> None:
        """Takes back what a grow to that many rows has left behind the table's end."""
