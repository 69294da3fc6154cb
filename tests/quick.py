"""Which tests a quick run leaves to --all: by what they are, so that no list of them has to be kept."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

import pytest

NARROW = re.compile(r"(?<!b)float16|float8")
WIDE = re.compile(r"float64|bfloat16")
OTHERS = re.compile(r"trunc_normal|log_|ring_decay|softplus|sparse|orthogonal|variance_scaling|lecun_normal")
SUITES = ("layout", "kind", "example")  # parameters over which a file runs many tests
SHARE = 4  # each of those tests takes one value of this many


def chosen(items: Iterable[pytest.Item], named: set[str]) -> Iterator[pytest.Item]:
    """The tests of a quick run, and those whose functions are named, in their order."""
    items = list(items)
    kept = set(thinned([item for item in items if not slow(item)]))
    return (item for item in items if item in kept or item.name.partition("[")[0] in named)


def slow(item: pytest.Item) -> bool:
    """Whether a test is marked so, or compiles kernels that no other test of a quick run needs: of dtypes whose values
    differ from bfloat16's in the last rounding alone, or of a method other than uniform and normal in another dtype
    than float32. Those would be most of all that it compiles.
    """
    if item.get_closest_marker("slow"):
        return True
    if item.path.parent.name == "rng" and "method" not in values(item):
        return False  # loops of its own
    alone = WIDE.search(item.name) is not None and OTHERS.search(item.name) is not None
    return alone or NARROW.search(item.name) is not None


def thinned(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """Of each test as few cases as have each value of each of its parameters once. Of a suite over many targets, each
    test takes a quarter of them, and the next test others.
    """
    files: dict[Path, dict[str, list[pytest.Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        files[item.path][item.nodeid.partition("[")[0]].append(item)
    for functions in files.values():
        for number, cases in enumerate(functions.values()):
            yield from covering(of_suites(cases, number))


def of_suites(cases: list[pytest.Item], number: int) -> list[pytest.Item]:
    """The cases of a test with every fourth value of a suite's parameter, from another one in each test."""
    for name in SUITES:
        of_each = list(dict.fromkeys(values(case).get(name) for case in cases))
        if len(of_each) > 2 * SHARE:
            left = set(of_each[number % SHARE :: SHARE])
            cases = [case for case in cases if values(case)[name] in left]
    return cases


def covering(cases: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Cases that have each value of each parameter: always the one next that has the most values that were in none; of
    equals one of float32, whose kernels most tests need.
    """
    left = {case: set(values(case).items()) for case in cases}
    seen: set[tuple[str, Hashable]] = set()
    while left:
        case = max(left, key=lambda case: (len(left[case] - seen), "float32" in case.name))
        if seen and not left[case] - seen:
            return
        yield case
        seen |= left.pop(case)


def values(case: pytest.Item) -> dict[str, Hashable]:
    """The value of each parameter, as what can be told apart from others."""
    given = case.callspec.params if hasattr(case, "callspec") else {}
    return {name: (type(value), value) if hashable(value) else id(value) for name, value in given.items()}


def hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
