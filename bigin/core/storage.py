"""Options of object stores that a caller gives: in force within a block, and for the threads that it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_given: dict[str, str] = {}  # of the process: workers are threads that were not started by the caller's context


def given() -> dict[str, str]:
    """The options that are in force."""
    return dict(_given)


def set_options(options: Mapping[str, str]) -> None:
    """Replaces the options that are in force."""
    _given.clear()
    _given.update(options)


@contextmanager
def using(options: Mapping[str, str]) -> Iterator[None]:
    """The options in force, and more of them or others, within a block."""
    before = given()
    set_options(before | dict(options))
    try:
        yield
    finally:
        set_options(before)
