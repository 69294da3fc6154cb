"""Which parts a process does: those that a user names, or that a scheduler assigns in the environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bigin.core.errors import InputError
from bigin.core.text import counted

SHOWN = 20  # stretches of part numbers in a message


@dataclass(frozen=True)
class Array:
    """The variables of a scheduler's job array: the task's number, and where it says so the last one and the step."""

    scheduler: str
    number: str
    last: str = ""
    step: str = ""
    first: int = 0  # the smallest number that the scheduler allows


ARRAYS = (
    Array("Slurm", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP"),
    Array("Kubernetes", "JOB_COMPLETION_INDEX"),
    Array("AWS Batch", "AWS_BATCH_JOB_ARRAY_INDEX"),
    Array("SGE", "SGE_TASK_ID", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE", 1),  # its task numbers begin at 1
    Array("PBS", "PBS_ARRAY_INDEX"),
)
RANKS = (("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))


def parse_parts(text: str, parts: int, *, one_based: bool = False) -> list[int]:
    """The parts that a text such as 17,40-60 names, each once, in its order; raises InputError."""
    base = int(one_based)
    numbers: dict[int, None] = {}
    for piece in text.split(","):
        ends = [end.strip() for end in piece.split("-")]
        if len(ends) > 2 or not all(end.isascii() and end.isdigit() for end in ends):
            raise InputError(f"expected parts such as 17 or 17,40-60, got {text!r}")
        first, last = int(ends[0]), int(ends[-1])
        if first > last:
            raise InputError(f"expected parts such as 40-60, the smaller number first, got {piece.strip()!r}")
        if first < base or last >= parts + base:
            raise out_of_range(piece.strip(), parts, base)
        numbers.update(dict.fromkeys(range(first - base, last - base + 1)))
    return list(numbers)


def out_of_range(text: str, parts: int, base: int) -> InputError:
    """The error of a part that the plan does not have."""
    hint = "" if base else f"; add --one-based if your scheduler counts 1-{parts}"
    return InputError(f"expected parts from {base} to {parts - 1 + base}, as the plan has {parts}, got {text}{hint}")


def parts_here(environment: Mapping[str, str], parts: int, *, one_based: bool = False) -> Sequence[int]:
    """The parts that the environment assigns to this process; raises InputError where it says nothing clear.

    An array's task does the part of its number; with a step, that one and those up to the next task's. Ranks (torchrun,
    MPI) take every so many-th part, of all or of what their array's task has.
    """
    arrays = [array for array in ARRAYS if environment.get(array.number, "undefined") != "undefined"]
    ranks = next((pair for pair in RANKS if environment.get(pair[0])), None)
    if len(arrays) > 1:
        raise InputError(
            f"expected one scheduler in the environment, got {arrays[0].number} and {arrays[1].number}; say which "
            "parts with --part (parts=)"
        )
    if not arrays and ranks is None:
        raise InputError(
            "expected --part, or a task's number in the environment (SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, RANK, "
            "...), got neither; give --part 0, or --part 17,40-60"
        )
    here: Sequence[int] = _of_array(arrays[0], environment, parts, one_based=one_based) if arrays else range(parts)
    if ranks is None:
        return here
    rank, size = _number(environment, ranks[0]), _number(environment, ranks[1], 1)
    if not 0 <= rank < size:
        raise InputError(f"expected {ranks[0]} below {ranks[1]}, got {rank} and {size}")
    return here[rank::size]


def _of_array(array: Array, environment: Mapping[str, str], parts: int, *, one_based: bool) -> range:
    base = max(int(one_based), array.first)
    number, step = _number(environment, array.number), max(1, _number(environment, array.step, 1))
    last = _number(environment, array.last, number)
    if not base <= number < parts + base:
        raise out_of_range(f"{array.number}={number}", parts, base)
    if last >= parts + base:
        raise out_of_range(f"{array.last}={last}", parts, base)
    return range(number - base, min(number - base + step, parts))


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name) if name else None
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdigit()):
        if default is not None and text in ("", "undefined"):
            return default
        raise InputError(f"expected {name} to be a number, got {text!r}")
    return int(text)


def as_text(numbers: Iterable[int], *, shown: int = SHOWN) -> str:
    """Sorted numbers as --part takes them: 17,40-60."""
    pieces: list[tuple[int, int]] = []
    for number in numbers:
        if pieces and pieces[-1][1] + 1 == number:
            pieces[-1] = (pieces[-1][0], number)
        else:
            pieces.append((number, number))
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in pieces]
    more = (
        f" and {counted(sum(last - first + 1 for first, last in pieces[shown:]), 'more part')}"
        if len(texts) > shown
        else ""
    )
    return ",".join(texts[:shown]) + more
