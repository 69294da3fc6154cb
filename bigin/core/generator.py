"""A fresh stream for every call, as torch's functions draw from a generator."""

from __future__ import annotations

import threading
from typing import Any

from bigin.core.errors import InputError
from bigin.core.text import counted


class Generator:
    """Names the streams of calls in their order: that of the n-th call is `#n`, under one seed.

    The functions of `bigin.init` take one as `generator=`; without one they use the default generator, which
    `bigin.manual_seed` seeds. The same calls in the same order draw the same values.

    Args:
        seed: an integer from 0 to 2^64 - 1.

    Raises:
        InputError: the seed is none.

    Example:
        >>> a, b = np.empty(4), np.empty(4)
        >>> generator = bigin.Generator(7)
        >>> _ = bigin.init.normal_(a, generator=generator), bigin.init.normal_(b, generator=generator)
        >>> bool((a == b).any())
        False
        >>> _ = bigin.init.normal_(b, seed=7, name="#1")
        >>> bool((a == b).all())
        True
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Begin again with a seed: the next call's stream is `#1`.

        Args:
            seed: an integer from 0 to 2^64 - 1.

        Returns:
            The generator.

        Raises:
            InputError: the seed is none.
        """
        self._seed = parse_seed(seed)
        self._calls = 0
        return self

    def initial_seed(self) -> int:
        """The seed.

        Returns:
            The seed of the last `manual_seed`.
        """
        return self._seed

    def next_stream(self) -> tuple[int, str]:
        """The seed and the name of the next call's stream, which no later call gets.

        Returns:
            (seed, name).
        """
        with self._lock:
            self._calls += 1
            return self._seed, f"#{self._calls}"

    def __repr__(self) -> str:
        return f"bigin.Generator({self._seed}), {counted(self._calls, 'call')}"


def parse_seed(seed: Any) -> int:
    """A seed: an integer from 0 to 2^64 - 1."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() < 1 << 64:
        raise InputError(f"expected a seed from 0 to 2^64 - 1, got {seed!r}")
    return int(seed.__index__())


DEFAULT = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the default generator of `bigin.init`: its calls draw the same values again, in their order.

    Args:
        seed: an integer from 0 to 2^64 - 1.

    Returns:
        The default generator.

    Raises:
        InputError: the seed is none.

    Example:
        >>> w = np.empty((3, 4))
        >>> _ = bigin.manual_seed(1)
        >>> first = bigin.init.normal_(w).copy()
        >>> _ = bigin.manual_seed(1)
        >>> bool((bigin.init.normal_(w) == first).all())
        True
    """
    return DEFAULT.manual_seed(seed)
