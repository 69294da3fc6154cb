"""What is slower than in an earlier run, by more than the noise of both."""

from __future__ import annotations

from typing import Any

SAME = ("cpu", "instructions", "cores", "clock")  # of the machine: figures of another are not comparable

MISSING = {"clock": "wall"}  # what a file of before the key existed means


class OtherMachineError(Exception):
    """The earlier figures are from another machine or another instruction set."""


def require_same(machine: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Raises OtherMachineError where the earlier figures cannot be compared with this machine's."""
    for key in SAME:
        now, then = (run.get(key, MISSING.get(key, "unknown")) for run in (machine, earlier["machine"]))
        if now != then:
            raise OtherMachineError(f"expected figures of this machine ({key} {now}), got those of {key} {then}")


def slower(found: dict[str, Any], earlier: dict[str, Any]) -> tuple[list[str], int]:
    """A line for each case that is slower, and how many cases were in both runs.

    A case is slower where the best sample of now is below the worst of then, in GB/s and in the ratio to the peer: a
    machine that is busy slows both sides and leaves the ratio. Where bigin is its own peer, and the peer also changed,
    the ratio says nothing, and GB/s decide.

    Of 26 cases that are as fast as before, with five samples each in both runs, one would still look slower in every
    tenth run by chance; so a run measures such cases twice.
    """
    before = {identity(case): case for case in earlier["cases"] if case["validated"]}
    pairs = [
        (case, before[identity(case)]) for case in found["cases"] if case["validated"] and identity(case) in before
    ]
    return [line(now, then) for now, then in pairs if is_slower(now, then)], len(pairs)


def identity(case: dict[str, Any]) -> tuple[Any, ...]:
    return case["name"], case["size"], case["peer"]


def is_slower(now: dict[str, Any], then: dict[str, Any]) -> bool:
    keys = ["ours_gb_per_s"] if now["peer"].startswith("bigin") else ["ours_gb_per_s", "ratio"]
    return all(now[key]["max"] < then[key]["min"] for key in keys)


def line(now: dict[str, Any], then: dict[str, Any]) -> str:
    new, old = (case["ours_gb_per_s"]["median"] for case in (now, then))
    ratios = f"ratio {now['ratio']['median']:.2f}x, was {then['ratio']['median']:.2f}x"
    return f"slower: {now['name']}, {now['peer']}: {new:.3g}, was {old:.3g}; {ratios}"
