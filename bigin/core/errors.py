"""The kinds of failure. Each message is one line: what was expected, what came, what to do."""

from __future__ import annotations


class InputError(ValueError):
    """What was asked for cannot be done; nothing was changed. The command line exits with 2."""


class TargetError(InputError):
    """The disk or its rights do not allow what was asked for; nothing was changed. The command line exits with 1."""


class NotFoundError(InputError):
    """Nothing is where a target, a checkpoint or a table was named."""


class ExistsError(InputError):
    """Something else is where new data was to go; nothing was changed."""


class LockedError(InputError):
    """Another writer is at work on the target; nothing was changed."""


class RecordError(InputError):
    """The target has no provenance record, or one that cannot be used."""


class SourceError(InputError):
    """The checkpoint that values were copied from is gone, or is another one."""


class FillError(RuntimeError):
    """A fill that had begun could not be finished. The command line exits with 1."""


class DamagedError(FillError):
    """What is stored was removed, replaced or cut off, or cannot be decoded."""


class StoreError(Exception):
    """What a store on a network answered to a request; whether it may pass, and whether it asked for fewer requests."""

    def __init__(self, text: str, *, passes: bool, throttled: bool = False) -> None:
        super().__init__(text)
        self.passes = passes
        self.throttled = throttled


class LockWarning(UserWarning):
    """A store does not honour create-only requests, so that nothing keeps another writer away."""


class RecipeWarning(UserWarning):
    """A recipe is probably not meant for the model that it is applied to."""


class Interrupted(KeyboardInterrupt):
    """A fill was interrupted; the message says how far it got and how to go on. The command line exits with 130."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM). The command line exits with 1."""


class StreamWarning(UserWarning):
    """Two arrays in memory were filled from one stream, so that both hold values of the same draws."""


class TableWarning(UserWarning):
    """A table is made of values that depend on the number of rows, so that it cannot grow."""


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept, so that every run compiles them again."""
