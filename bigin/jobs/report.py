"""What a fill did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bigin.core.record import Record


@dataclass(frozen=True)
class Report:
    """What a fill did.

    Attributes:
        target: the target's label, a path or what an array is.
        nbytes: bytes of values that were made.
        seconds: the time that it took, without the compiling of kernels.
        record: the provenance record that the target keeps, or would keep.
        stored: bytes that an earlier fill had stored already.
        retries: number of retried store operations.
        device: where the values were made, and why where that was left open.
        compiling: seconds of compiling kernels, which the first fill of a kind on a machine needs.
    """

    target: str
    nbytes: int
    seconds: float
    record: Record = field(repr=False)
    stored: int = 0
    retries: int = 0
    device: str = "cpu"
    compiling: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The report as `bigin fill --json` prints it.

        Returns:
            A dict of what JSON can hold.
        """
        return {**vars(self), "record": dict(self.record)}
