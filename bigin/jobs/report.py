"""The result of a fill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bigin.core.html import card
from bigin.core.record import Record
from bigin.core.text import rate_text, size_text
from bigin.spec.record import described


@dataclass(frozen=True)
class Report:
    """The result of a fill.

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

    def _repr_html_(self) -> str:
        speed = f"{size_text(self.nbytes)} in {self.seconds:.2f} s, {rate_text(self.nbytes / max(self.seconds, 1e-9))}"
        facts = {
            "values": described(self.record),
            "written": speed,
            "already stored": size_text(self.stored) if self.stored else None,
            "compiling": f"{self.compiling:.1f} s, once on this machine" if self.compiling else None,
            "retried operations": self.retries or None,
            "computed on": self.device,
        }
        return card(self.target, facts)
