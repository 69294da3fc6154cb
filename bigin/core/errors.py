"""The kinds of failure. Each message is one line: what was expected, what came, what to do."""

from __future__ import annotations


class InputError(ValueError):
    """The request is wrong; nothing was changed. The command line exits with 2."""


class TargetError(InputError):
    """The disk or its permissions do not allow the request; nothing was changed. The command line exits with 1."""


class NotFoundError(InputError):
    """The target, checkpoint or table does not exist."""


class ExistsError(InputError):
    """Other data is stored at the target; nothing was changed."""


class LockedError(InputError):
    """Another process writes to the target; nothing was changed."""


class RecordError(InputError):
    """The target has no provenance record, or one that cannot be used."""


class SourceError(InputError):
    """The checkpoint that values were copied from is missing, or has changed."""


class FillError(RuntimeError):
    """A fill that had begun could not be finished. The command line exits with 1."""


class DamagedError(FillError):
    """Stored data was removed, replaced or truncated, or cannot be decoded."""


class StoreError(Exception):
    """What a store on a network answered to a request; whether it may pass, and whether it asked for fewer requests."""

    def __init__(self, text: str, *, passes: bool, throttled: bool = False) -> None:
        super().__init__(text)
        self.passes = passes
        self.throttled = throttled


class LockWarning(UserWarning):
    """A store does not honour create-only requests, so other writers are not excluded."""


class RecipeWarning(UserWarning):
    """A recipe is probably not meant for the model that it is applied to."""


class Interrupted(KeyboardInterrupt):
    """A fill was interrupted; the message says how much is stored. The command line exits with 130."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM). The command line exits with 1."""


class StreamWarning(UserWarning):
    """Two arrays in memory were filled from one stream, so both hold the same draws."""


class TableWarning(UserWarning):
    """The values of a table depend on its number of rows, so it cannot grow."""


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept, so every run compiles them again."""
