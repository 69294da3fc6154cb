"""Sizes, as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from bigin import InputError
from bigin.core.text import counted, parse_size


@pytest.mark.parametrize(
    ("given", "size"),
    [(7, 7), (2e9, 2_000_000_000), ("1.5GiB", 3 << 29), ("2 GB", 2_000_000_000), ("512mib", 512 << 20), ("3.0", 3)],
)
def test_a_number_of_bytes(given: Any, size: int) -> None:
    assert parse_size(given) == size


@pytest.mark.parametrize("given", [1.5, "1.5", "2.5B", 0, -1, "", "GB", "1,5GB", True, None, float("nan"), "1e9x"])
def test_what_is_no_number_of_bytes(given: Any) -> None:
    with pytest.raises(InputError, match="expected a size"):
        parse_size(given)


def test_a_count_and_its_noun_agree() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert [counted(n, "axis", "axes") for n in (1, 3)] == ["1 axis", "3 axes"]
