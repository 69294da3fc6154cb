"""bigin.attest: a manifest of what a model holds, which anyone can check from its values or from the law alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bigin
from bigin.api.matching import Matched, Wanted, Wanting, by_recipe, matched
from bigin.core.disk import replace_file
from bigin.core.errors import DamagedError, InputError, NotFoundError, RecordError
from bigin.core.floats import default_modes
from bigin.core.html import card, listing
from bigin.core.limits import Limits
from bigin.core.names import dotted
from bigin.core.outputs import check_document
from bigin.core.paths import parse_path
from bigin.core.record import Record, model_record
from bigin.core.text import agree, counted
from bigin.core.threads import map_threads
from bigin.jobs.digests import digest_specified, digest_stored
from bigin.spec.model import ModelSpec, TensorValues
from bigin.spec.spec import STREAM

MANIFEST = "manifest"
FORMAT = "bigin attestation 1"
MENTIONED = 5  # tensors that an error about many names
LARGEST = 1 << 30  # bytes of a manifest


@dataclass(frozen=True)
class Attestation:
    """A manifest of a model: a digest of each tensor, and the record that says how its values are computed.

    Attributes:
        tensors: for each name, the dtype, the shape and the digest (BLAKE2b).
        law: the record of all tensors; None if only values are attested.
        by: the recipe or configuration that the values were compared with, or an empty string.
        skipped: names of tensors that the recipe skips; nothing is attested of them.
    """

    tensors: Mapping[str, Mapping[str, Any]] = field(repr=False)
    law: Record | None = field(default=None, repr=False)
    by: str = ""
    skipped: Sequence[str] = field(default=(), repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest: BLAKE2b-256 of a line for each tensor (name, NUL, digest), sorted by name."""
        lines = (f"{name}\0{held['blake2b']}\n" for name, held in sorted(self.tensors.items()))
        return hashlib.blake2b("".join(lines).encode(), digest_size=32).hexdigest()

    def _repr_html_(self) -> str:
        facts = {
            "tensors": f"{len(self.tensors):,}",
            "values by": (self.by or "the record") if self.law else "no law: the digests alone",
            "seed": None if self.law is None else self.law.get("seed"),
            "digest": self.digest,
        }
        return card("attestation of a model", facts)

    @property
    def text(self) -> str:
        """The manifest as text; equal attestations have equal texts."""
        held = {
            "format": FORMAT,
            "bigin": bigin.__version__,
            "stream": STREAM,
            "by": self.by or None,
            "seed": None if self.law is None else self.law.get("seed"),
            "digest": self.digest,
            "tensors": {name: dict(told) for name, told in self.tensors.items()},
            "law": self.law,
        } | ({"skipped": sorted(self.skipped)} if self.skipped else {})
        return json.dumps(held, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest to a file.

        Args:
            path: the file; an earlier manifest is replaced.

        Raises:
            InputError: there is no such folder, or another file at the path; nothing was changed.
        """
        replace_file(check_document(path, MANIFEST), self.text.encode())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Attestation:
        """Read a manifest.

        Args:
            path: the file of the manifest.

        Returns:
            The attestation.
        """
        file = parse_path(path, "a manifest")
        if not file.is_file():
            raise NotFoundError(f"{file}: expected a manifest of bigin attest, got nothing")
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file}: expected a manifest of at most {LARGEST} bytes, got {file.stat().st_size}")
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            if held["format"] != FORMAT or held["stream"] != STREAM:
                raise InputError(
                    f"{file}: expected {FORMAT} of stream {STREAM}, got {held['format']!r:.60} of {held['stream']!r}"
                )
            tensors = {
                str(name): {
                    "dtype": str(t["dtype"]),
                    "shape": [int(n) for n in t["shape"]],
                    "blake2b": str(t["blake2b"]),
                }
                for name, t in held["tensors"].items()
            }
            skipped = [str(name) for name in held.get("skipped", ())]
            made, digest = cls(tensors, held["law"], held["by"] or "", skipped), held["digest"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file}: expected a manifest that `bigin attest` has written, got another file") from None
        if digest != made.digest:
            raise InputError(f"{file}: expected the digest of all its tensors, got another one; it was edited")
        return made

    def check(
        self, target: Any = None, *, threads: int | None = None, max_memory: int | str | None = None
    ) -> AttestationCheck:
        """Compare the digests with those of a model, or with those of values that are computed again.

        Args:
            target: a safetensors file, the folder or index of a checkpoint, a zarr group, or one array; here or in
            a store. None computes the values
                again, by the law, and needs no checkpoint.
            threads, max_memory: as in bigin.fill.

        Returns:
            The names of tensors that have other values, are missing or are unknown.
        """
        limits = Limits.parse(threads, max_memory)
        if target is None:
            if self.law is None:
                raise RecordError("expected a manifest that says by which law its values are made, got digests alone")
            with default_modes():
                specs = {dotted(name): spec for name, spec in ModelSpec.from_record(self.law).tensors.items()}
                return self._compared("the law", lawful(specs, limits))
        with matched(target, nothing) as found:
            return self._compared(found.target.label, stored(found, limits))

    def _compared(self, label: str, held: Mapping[str, Mapping[str, Any]]) -> AttestationCheck:
        names = set(self.tensors) & set(held)
        return AttestationCheck(
            label,
            len(self.tensors),
            sorted(name for name in names if self.tensors[name] != held[name]),
            sorted(set(self.tensors) - set(held)),
            sorted(set(held) - set(self.tensors) - set(self.skipped)),
        )


@dataclass(frozen=True)
class AttestationCheck:
    """The result of a comparison with a manifest.

    Attributes:
        target: what was compared: the label of a model, or "the law".
        total: the number of tensors in the manifest.
        different, missing, extra: names of tensors that have other values, dtypes or shapes; that are missing; and that
            the manifest does not list.
    """

    target: str
    total: int
    different: list[str]
    missing: list[str]
    extra: list[str]

    @property
    def equal(self) -> bool:
        """Whether all tensors are equal to those of the manifest."""
        return not (self.different or self.missing or self.extra)

    def _repr_html_(self) -> str:
        lines = [("different", self.different), ("missing", self.missing), ("extra", self.extra)]
        counts = ", ".join(f"{len(names)} {what}" for what, names in lines if names)
        total = counted(self.total, "tensor")
        facts = {"result": f"{agree(self.total, '', 'all ')}{total} equal" if self.equal else f"{counts} of {total}"}
        rows = [[name, what] for what, names in lines for name in names]
        return card(self.target, facts, listing(["tensor", "is"], rows, words=True) if rows else "")

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as `bigin attest --check --json` prints it.

        Returns:
            A dict that can be written as JSON.
        """
        return {**vars(self), "equal": self.equal}


def attest(
    target: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    recipe: str | os.PathLike[str] | None = None,
    like: Any = None,
    variables: Mapping[str, Any] | None = None,
    seed: int | None = None,
    values_only: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> Attestation:
    """Write a manifest of a model: a digest of every tensor, and the specification of its values.

    The values are compared with their specification before the manifest is written. The manifest is not signed. It can
    be checked against a checkpoint, or without one against values that are computed again.

    Args:
        target: a safetensors file, the folder or index of a checkpoint, a zarr group, or one array; here or in
            a store.
        output: file to write the manifest to; an existing file is replaced. If None, no file is written.
        recipe, like, variables, seed: the expected values, as in `verify`. By default those of the record.
        values_only: write digests only, without comparing values: for a trained model, or a model without a record.
        threads, max_memory: as in `fill`. Each thread reads or computes one tensor at a time.

    Returns:
        The attestation; its `check` method compares it again.

    Raises:
        InputError: there is no such model or no record, or an argument is invalid.
        DamagedError: the values differ from those of the record or the recipe; nothing was written.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "kaiming_normal"\\n')
        >>> report = bigin.initialize("recipe.toml", "model.zarr", seed=42)
        >>> attestation = bigin.attest("model.zarr", "manifest.json")
        >>> bigin.Attestation.read("manifest.json").check().equal  # by the law alone
        True
    """
    wanting: Wanting | None = None
    if recipe is not None or like is not None or variables is not None:
        wanting = by_recipe(recipe, like, seed, variables)
    return attest_model(target, nothing if values_only else wanting, output, Limits.parse(threads, max_memory))


def attest_model(target: Any, wanting: Wanting | None, output: Any, limits: Limits) -> Attestation:
    """Attests a model with what it should hold; None stands for what its record says."""
    if output is not None:
        check_document(output, MANIFEST)
    with matched(target, wanting) as found:
        held = stored(found, limits)
        if wanting is nothing:
            made = Attestation(held)
        else:
            wrong = [*found.missing, *found.extra, *(line.partition(":")[0] for line in found.unlike)]
            if wrong:
                raise DamagedError(f"{found.target.label}: {other_than(found, wrong)}")
            specs = {dotted(name): spec for name, spec in found.specs.items()}
            law = lawful(specs, limits)
            if different := sorted(name for name in law if law[name] != held[name]):
                raise DamagedError(f"{found.target.label}: {other_than(found, different)}")
            kept = {name: entry for name, entry in held.items() if name in specs}
            record = model_record({name: spec.record() for name, spec in specs.items()})
            made = Attestation(kept, record, found.wanted.by, [dotted(name) for name in found.wanted.skipped])
    if output is not None:
        made.write(output)
    return made


def other_than(found: Matched, names: list[str]) -> str:
    """What is wrong with a model that is not what it is said to be."""
    shown = ", ".join(names[:MENTIONED]) + (", ..." if len(names) > MENTIONED else "")
    return (
        f"expected what {found.wanted.by} says, got something else in {shown}; `bigin verify` tells where, and "
        "--values (values_only=True) attests the values alone"
    )


def nothing(model: Any) -> Wanted:
    """Of a model of which only the values matter, nothing is said."""
    return Wanted("", {})


def stored(found: Matched, limits: Limits) -> dict[str, dict[str, Any]]:
    """The digests of what a model holds, by the names of the law."""
    members = list(found.target.members.items())
    digests = map_threads(lambda each: digest_stored(each[1], limits, found.retries), members, limits.threads)
    return {
        dotted(name): {"dtype": member.dtype.name, "shape": list(member.shape), "blake2b": digest}
        for (name, member), digest in zip(members, digests, strict=True)
    }


def lawful(specs: Mapping[str, TensorValues], limits: Limits) -> dict[str, dict[str, Any]]:
    """The digests of what the law says."""
    tensors = list(specs.items())
    digests = map_threads(lambda each: digest_specified(each[1], limits), tensors, limits.threads)
    return {
        name: {"dtype": spec.dtype.name, "shape": list(spec.shape), "blake2b": digest}
        for (name, spec), digest in zip(tensors, digests, strict=True)
    }
