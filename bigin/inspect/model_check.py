"""The results of `check` and `show` for a model: a line for every tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bigin.core.html import card, listing
from bigin.core.text import agree, counted
from bigin.inspect.examining import Examined, Finding


@dataclass(frozen=True)
class ModelCheck:
    """The result of a check: the tensors of a model that do not look as expected.

    Attributes:
        target: the model's label.
        by: what said what the tensors should be.
        tensors: every tensor, in the order of the names, with what is wrong with it.
        sample: the share of the values that was read.
        alarms: the probability that a model that is right is said to be wrong.
    """

    target: str
    by: str
    tensors: Sequence[Examined] = field(repr=False)
    sample: float = 1.0
    alarms: float = 1e-6

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> list[Examined]:
        """The tensors with which something is wrong."""
        return [each for each in self.tensors if each.findings]

    def as_dict(self) -> dict[str, Any]:
        """The check as `bigin check --json` prints it.

        Returns:
            A dict of what JSON can hold.
        """
        return {
            "target": self.target,
            "by": self.by,
            "right": self.right,
            "sample": self.sample,
            "alarms": self.alarms,
            "tensors": [row_of(each) for each in self.tensors],
        }

    def _repr_html_(self) -> str:
        count = len(self.tensors)
        wrong = f"{len(self.wrong)} of {counted(count, 'tensor')} {agree(len(self.wrong), 'is', 'are')} not"
        facts = {
            "result": f"{agree(count, '', 'all ')}{counted(count, 'tensor')} as expected"
            if self.right
            else f"{wrong} as expected",
            "compared with": self.by,
        }
        rows = [[each.tensor, finding.text] for each in self.wrong for finding in each.findings]
        return card(self.target, facts, listing(["tensor", "what is wrong"], rows, words=True) if rows else "")


def row_of(each: Examined) -> dict[str, Any]:
    """A tensor for JSON."""
    numbers = ("mean", "std", "expected_mean", "expected_std")
    return {
        "tensor": each.tensor,
        "shape": list(each.shape),
        "dtype": each.dtype,
        "wanted": each.wanted or None,
        **{name: (value if math.isfinite(value := getattr(each, name)) else None) for name in numbers},
        "right": each.right,
        "findings": [asdict(finding) for finding in each.findings],
    }


def absent(name: str, kind: str, text: str) -> Examined:
    """A tensor that cannot be looked at."""
    return Examined(name, (), "", findings=[Finding(kind, text)])
