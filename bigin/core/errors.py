"""The kinds of failure. Each message is one line: what was expected, what came, what to do."""

from __future__ import annotations


class InputError(ValueError):
    """What was asked for cannot be done; nothing was changed. The command line exits with 2."""


class TargetError(InputError):
    """The disk or its rights do not allow what was asked for; nothing was changed. The command line exits with 1."""


class FillError(RuntimeError):
    """A fill that had begun could not be finished. The command line exits with 1."""


class RecipeWarning(UserWarning):
    """A recipe is probably not meant for the model that it is applied to."""


class Interrupted(KeyboardInterrupt):
    """A fill was interrupted; the message says how far it got and how to go on. The command line exits with 130."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM). The command line exits with 1."""
