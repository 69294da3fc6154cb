"""A progress bar for `progress=`: in a notebook, on a terminal, or not at all."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from bigin.core.text import duration_text, rate_text, size_text

INTERVAL = 0.2  # seconds between two drawings
CELLS = 30  # of the bar on a terminal
STEPS = 1 << 20  # below this a total is a number of steps, not of bytes


class ProgressBar:
    """A bar for the `progress` of any function that takes one: `bigin.fill(..., progress=bigin.ProgressBar())`.

    In a notebook it is a bar of HTML, which is updated in place. On a terminal it is one line on standard error.
    Elsewhere, as in a pipe or the log of a job, nothing is shown. One bar may serve several calls, one after the other.

    Args:
        label: what is shown before the bar.

    Example:
        >>> report = bigin.fill("w.npy", "normal", shape=(1000, 64), progress=bigin.ProgressBar("w"))
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._done = 0
        self._start = 0.0
        self._first: int | None = None  # what was done at the first call
        self._shown: float | None = None  # time of the last drawing
        self._handle: Any = None
        self._ended = (0, -INTERVAL)  # the total of the last call that came to its end, and when it did

    def __repr__(self) -> str:
        return f"bigin.ProgressBar({self.label!r})"

    def __call__(self, done: int, total: int) -> None:
        """Show how much is done.

        Args:
            done, total: of bytes, or of other work.
        """
        now = time.monotonic()
        if done == total == self._ended[0] and now - self._ended[1] < INTERVAL:
            return  # the end may be reported twice
        if done < self._done:
            self._begin()
        if self._first is None:
            self._first, self._start = done, now
        self._done = done
        ended = done >= total
        if self._shown is not None and not ended and now - self._shown < INTERVAL:
            return
        self._shown = now
        self._draw(done, total, now - self._start)
        if ended:
            self._ended = total, now
            self._begin()

    def _begin(self) -> None:
        """Forget the call before."""
        self._done = 0
        self._first = self._shown = self._handle = None

    def _draw(self, done: int, total: int, seconds: float) -> None:
        share = done / total if total else 1.0
        text = f"{100 * share:.0f}%, {told(done, total, (done - (self._first or 0)) / seconds if seconds else 0.0)}"
        if in_notebook():
            self._show(share, text)
        elif sys.stderr is not None and sys.stderr.isatty():
            full = round(CELLS * share)
            label = f"{self.label} " if self.label else ""
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r\x1b[K{label}[{'#' * full}{'.' * (CELLS - full)}] {text}{end}")
            sys.stderr.flush()

    def _show(self, share: float, text: str) -> None:
        """Show the bar in a notebook, or update the one that is there."""
        from IPython.display import display

        label = f"{escape(self.label)} " if self.label else ""
        bar = f'<progress value="{share:.4f}" max="1" style="width:20em;vertical-align:middle"></progress>'
        bundle = {"text/html": f"<div>{label}{bar} {escape(text)}</div>", "text/plain": f"{self.label} {text}".strip()}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)


def told(done: int, total: int, rate: float) -> str:
    """Return how much of a total is done, how fast, and how much time is left."""
    if total < STEPS:
        return f"{done:,} of {total:,}"
    left = f", {duration_text((total - done) / rate)} left" if rate and done < total else ""
    return f"{size_text(done)} of {size_text(total)}{f', {rate_text(rate)}' if rate else ''}{left}"


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
