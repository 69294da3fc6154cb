"""bigin.storage_options: how object stores are reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bigin.core.errors import InputError
from bigin.core.storage import using


@contextmanager
def storage_options(**options: str) -> Iterator[None]:
    """Set options of object stores within a with statement.

    The options take precedence over those of the environment. They apply to the whole process, and to the processes of
    an executor. docs/object-stores.md lists them.

    Args:
        **options: options of the store, such as region, profile, endpoint, anonymous or part_size, as strings. For a
            URL of fsspec, those of its file system.

    Returns:
        A context manager.

    Raises:
        InputError: a value is not a string. Unknown options are refused when the store is opened.

    Example:
        >>> with bigin.storage_options(region="eu-west-1", part_size="64MiB"):
        ...     pass  # bigin.fill("s3://bucket/w.npy", "normal", shape=(65536, 8192))
    """
    for key, value in options.items():
        if not isinstance(value, str):
            raise InputError(f"expected a text for the storage option {key}, got {value!r}")
    with using(options):
        yield
