"""The two kinds of failure. Each message is one line: what was expected, what came, what to do."""

from __future__ import annotations


class InputError(ValueError):
    """What was asked for cannot be done; nothing was changed. The command line exits with 2."""


class FillError(RuntimeError):
    """A fill that had begun could not be finished. The command line exits with 1."""
