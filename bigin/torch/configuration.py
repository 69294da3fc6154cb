"""A model of transformers from its configuration alone: initialized by its own code, and never in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigin.api.attesting import Attestation, attest_model
from bigin.api.checking import check_model
from bigin.api.matching import Wanted, verify_model
from bigin.api.models import Row
from bigin.api.plans import Plan, plan_model, plan_verify_model
from bigin.api.sources import with_sources
from bigin.api.writing import Form, Out, Written, as_orbax, fill_model
from bigin.core import dtypes
from bigin.core.collector import paused
from bigin.core.errors import InputError, NotFoundError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.text import similar
from bigin.core.warning import warn
from bigin.inspect.examining import How
from bigin.inspect.model_check import ModelCheck
from bigin.jobs.compare import Sample, Verification
from bigin.jobs.job import FillOptions, check_progress
from bigin.jobs.plans.begin import absolute
from bigin.jobs.report import Report
from bigin.recipes.presets import find_recipe
from bigin.recipes.read import read_recipe
from bigin.recipes.specs import Chosen, resolve_known
from bigin.recipes.write import recipe_text
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.targets.models import Model, nbytes_of
from bigin.targets.safetensors.companions import (
    CONFIG,
    Companions,
    companions_of,
    config_in_dtype,
    config_text,
    read_config,
)
from bigin.torch.deferring import deferred, in_words
from bigin.torch.filling import saved
from bigin.torch.modules import Member, Rules, members, padding_of, shape_of

INSTALL = "expected transformers, whose classes a configuration names; pip install 'bigin[transformers]'"
DTYPES = ("float32", "bfloat16", "float16", "float64")  # those that torch builds models in
# What a configuration that names no class is taken for: the first of these that transformers has for it.
AUTOMATIC = (
    *("AutoModelForImageTextToText", "AutoModelForSpeechSeq2Seq", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"),
    *("AutoModelForCausalLM", "AutoModelForImageClassification", "AutoModel"),
)
STDS = ("initializer_range", "init_std", "initializer_factor")  # configurations' names of a standard deviation


class Configuration:
    """A model of transformers, built from its configuration and initialized as its own code does, without weights.

    The class that the configuration names is built on the meta device, and its initialization is recorded as by
    bigin.torch.deferred. Nothing is downloaded. `initialize` writes the checkpoint, `outline` lists its tensors, `plan`
    cuts it into parts for many machines, and `recipe` returns the initialization as rules.

    Args:
        config: the file of a configuration, or the folder with config.json.
        seed: an integer from 0 to 2^64 - 1. By default the seed of the recipe, or 0.
        dtype: float32, bfloat16, float16 or float64, instead of the configuration's.
        architecture: the class, instead of the one that the configuration names first under "architectures".
        rules: rules for tensors that are to have other values than the model's own code makes: a recipe (its path, or
            the name of a recipe that ships with bigin), or rules as in bigin.torch.deferred.
        variables, strict: for a recipe, as in bigin.initialize.
        original_names: whether to write the names and parts that save_pretrained writes and that servers read.
            transformers names or stacks some of them differently in memory, such as the experts of a mixture. The
            values are the same.
        source: the checkpoint that a recipe's rules copy from, as in bigin.initialize.
        trust_remote_code: whether to run the code that comes with the configuration (its "auto_map"), as in
            transformers. This code can do anything that the user can.

    Raises:
        InputError: there is no such configuration or class, or no method says what its code does.

    Example:
        >>> import json
        >>> config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 50, "n_positions": 9}
        >>> with open("config.json", "w") as file:
        ...     json.dump(config, file)
        >>> model = bigin.torch.Configuration("config.json", seed=42)
        >>> model.initialize("out").nbytes
        5440
    """

    def __init__(
        self,
        config: str | os.PathLike[str],
        *,
        seed: int | None = None,
        dtype: Any = None,
        architecture: str | None = None,
        rules: Rules | str | os.PathLike[str] | None = None,
        variables: Mapping[str, Any] | None = None,
        strict: bool = False,
        original_names: bool = False,
        source: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if not isinstance(trust_remote_code, bool):
            raise InputError(f"expected trust_remote_code to be True or False, got {trust_remote_code!r}")
        self.path = path_of(config)
        self._said = read_config(self.path)
        recipe = rules if isinstance(rules, str | os.PathLike) else None
        if recipe is None and variables:
            raise InputError("expected variables only for a recipe, got them without one")
        chosen = (
            None if recipe is None else with_sources(Chosen(recipe, seed, variables or {}, strict=strict), source)[0]
        )
        if chosen is not None and seed is None:
            seed = read_recipe(find_recipe(chosen.recipe), chosen.variables).seed
        self.seed = 0 if seed is None else seed
        own = None if isinstance(rules, str | os.PathLike) else rules
        with paused(), quiet() as transformers, default_modes():
            make = with_own_code if trust_remote_code and "auto_map" in self._said else builder
            config_object, build = make(transformers, self.path, self._said, architecture)
            with deferred(self.seed, rules=own) as init:
                self.module = build(None if dtype is None else torch_dtype(dtype))
            self._init = init
            self._dtype = None if dtype is None else dtypes.parse_dtype(dtype).name
            self._config = config_object
            self._members = kept(self.module)
            self.specs = self._specified(chosen)
            self._original = original_names
            if original_names:
                if rules is not None:
                    raise InputError("expected no rules beside original_names (--original-names), got some")
                self.specs = self._converted()

    def _specified(self, chosen: Chosen | None) -> dict[str, TensorValues]:
        """What the values of each tensor are: by the recipe where it has a rule, else as the code makes them."""
        if chosen is None:
            return {member.name: spec for member, spec in self._init.assigned(self._members)}
        tensors = {m.name: (name_of(m), shape_of(m)) for m in self._members}
        values, unmatched = resolve_known(chosen, str(self.path), tensors, tensors)
        rest = [member for member in self._members if member.name in set(unmatched)]
        own = {member.name: spec for member, spec in self._init.assigned(rest)}
        for member in self._members:
            told = values.get(member.name)
            if isinstance(told, TensorSpec) and told.padding_idx is None:
                values[member.name] = replace(told, padding_idx=padding_of(member))
        return {m.name: (values | own)[m.name] for m in self._members if m.name in values or m.name in own}

    def _converted(self) -> dict[str, TensorValues]:
        """The same under the names of the files on the hub: what save_pretrained does to tensors is recorded."""
        from transformers.core_model_loading import revert_weight_conversion

        names = {member.name for member in self._members}

        def convert(held: dict[str, Any]) -> dict[str, Any]:
            made: dict[str, Any] = revert_weight_conversion(
                self.module, {name: tensor for name, tensor in held.items() if name in names}
            )
            return made

        try:
            return self._init.converted(self.module, convert)
        except InputError as error:
            raise InputError(f"{error}; leave out --original-names (original_names=)") from None

    def recorded(self) -> list[tuple[Member, TensorValues]]:
        """What the model's own code makes of every parameter and buffer, those too that no checkpoint holds.

        Returns:
            Pairs of a member of `module` and its values.
        """
        return self._init.assigned([*members(self.module)])

    @property
    def model(self) -> Model:
        """Names, dtypes and shapes of what a checkpoint holds: parameters, each once, and buffers that are saved."""
        tensors = {name: (dtypes.name_of(spec.dtype), spec.shape) for name, spec in self.specs.items()}
        return Model(str(self.path), {"": tensors})

    def outline(self) -> list[Row]:
        """Describe what `initialize` would write, without writing it.

        Returns:
            A row for every tensor, in the order of the names. Its `rule` is the class of the module that holds it.
        """
        owners, rows = {m.name: type(m.owner).__name__ for m in self._members}, []
        for name, (dtype, shape) in sorted(self.model.tensors.items()):
            values = in_words(self.specs[name])
            rows.append(Row(name, shape, dtype, owners.get(name, ""), values, nbytes_of(dtype, shape)))
        return rows

    def initialize(
        self,
        out: str | os.PathLike[str],
        *,
        format: str | None = None,
        max_shard_size: int | str | None = None,
        weights_only: bool = False,
        overwrite: bool = False,
        threads: int | None = None,
        max_memory: int | str | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Write a checkpoint that `from_pretrained` loads.

        Args:
            out: a folder for a safetensors checkpoint as Hugging Face writes it, a path that ends in .safetensors for
                one file, or in .zarr for a group.
            format: "orbax" for an Orbax checkpoint, as in bigin.initialize.
            max_shard_size: as in bigin.initialize; 5 GiB by default.
            weights_only: leave out config.json, generation_config.json, and the files of tokenizers and processors that
                lie beside the configuration. They go into folders alone.
            overwrite, threads, max_memory, sync, progress: as in bigin.initialize.

        Returns:
            A report: bytes, seconds and the record of all tensors.

        Raises:
            InputError: an argument is invalid; nothing was changed.
            FillError: the checkpoint could not be finished; the same call continues where it stopped.
        """
        limits, options = (
            Limits.parse(threads, max_memory),
            FillOptions(overwrite=overwrite, sync=sync, progress=progress),
        )
        form = Form.parse(format, max_shard_size, weights_only=weights_only)
        with default_modes():
            return fill_model(*self._written(expand(out), form), limits, options)

    def plan(
        self,
        out: str | os.PathLike[str],
        *,
        parts: int,
        format: str | None = None,
        max_shard_size: int | str | None = None,
        weights_only: bool = False,
        overwrite: bool = False,
    ) -> Plan:
        """Create the files of the checkpoint and cut its fill into parts, so that many machines can fill it.

        Args:
            out, format, max_shard_size, weights_only, overwrite: as in `initialize`; every machine can access `out`.
            parts: as in bigin.plan.

        Returns:
            The plan. The machines that work on it need neither torch nor transformers.

        Raises:
            InputError: an argument is invalid; nothing was changed.
        """
        form = Form.parse(format, max_shard_size, weights_only=weights_only)
        with default_modes():
            return plan_model(*self._written(absolute(expand(out)), form), parts, overwrite=overwrite)

    def verify(
        self,
        target: str | os.PathLike[str],
        *,
        sample: float = 1.0,
        sample_seed: int = 0,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """Compare a checkpoint or zarr group, bit for bit, with what `initialize` would write. It needs no record.

        Args:
            target: a safetensors file, the folder or the index of a checkpoint, or a zarr group.
            sample, sample_seed, threads, max_memory, requests, progress: as in bigin.verify.

        Returns:
            What was compared, what differs, and which tensors are missing, unknown or of another shape or dtype. A
            tensor that is tied may lie there under each of its names.

        Raises:
            InputError: there is no such checkpoint, or an argument is invalid.
            FillError: the checkpoint could not be read.
        """
        limits, chosen = Limits.parse(threads, max_memory, requests=requests), Sample(sample, sample_seed)
        check_progress(progress)
        return verify_model(target, self._wanting, limits, chosen, progress)

    def plan_verify(
        self, target: str | os.PathLike[str], *, parts: int, sample: float = 1.0, sample_seed: int = 0
    ) -> Plan:
        """Cut `verify` into parts for many machines.

        Args:
            target, sample, sample_seed: as in `verify`; every machine can access the target, which must have exactly
                these tensors.
            parts: as in bigin.plan.

        Returns:
            The plan. The machines that work on it need neither torch nor transformers.

        Raises:
            InputError: an argument is invalid.
        """
        return plan_verify_model(absolute(expand(target)), self._wanting, parts, Sample(sample, sample_seed))

    def check(
        self,
        target: str | os.PathLike[str],
        *,
        sample: float = 1.0,
        sample_seed: int = 0,
        threads: int | None = None,
        max_memory: int | str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ModelCheck:
        """Find the tensors of a checkpoint that do not look like those of the model's own code, with any seed.

        Args:
            target: a safetensors file, the folder or the index of a checkpoint, or a zarr group.
            sample, sample_seed, threads, max_memory, progress: as in bigin.check.

        Returns:
            Every tensor with its findings.

        Raises:
            InputError: there is no such checkpoint, or an argument is invalid.
            FillError: the checkpoint could not be read.
        """
        how = How(Limits.parse(threads, max_memory), Sample(sample, sample_seed))
        check_progress(progress)
        wanted = replace(self._wanting(self.model), by=type(self.module).__name__)
        return check_model(target, lambda model: wanted, how, progress)

    def attest(
        self,
        target: str | os.PathLike[str],
        output: str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        max_memory: int | str | None = None,
    ) -> Attestation:
        """Write a manifest of a checkpoint that has the values that `initialize` writes. It needs no record.

        Args:
            target: a safetensors file, the folder or the index of a checkpoint, or a zarr group.
            output, threads, max_memory: as in bigin.attest.

        Returns:
            The attestation.

        Raises:
            DamagedError: the checkpoint has other values; nothing was written.
        """
        return attest_model(target, self._wanting, output, Limits.parse(threads, max_memory))

    def _wanting(self, model: Model) -> Wanted:
        """What a checkpoint should hold, whatever it does hold."""
        first = {id(member.tensor): member.name for member in self._members}
        aliases = (
            {}
            if self._original
            else {
                name: first[id(tensor)]
                for name, tensor in self.module.named_parameters(remove_duplicate=False)
                if id(tensor) in first and first[id(tensor)] != name
            }
        )
        return Wanted(f"{self.path}, seed {self.seed}", self.specs, aliases=aliases)

    def recipe(self) -> str:
        """Return the initialization as a recipe that can be edited. `bigin.initialize` with it writes the same bits.

        Returns:
            TOML. What no rule can say, such as buffers that the model's code computes, is told in comments.
        """
        name = type(self.module).__name__
        held = {key: getattr(self._config, key, None) for key in STDS}
        variables = {key: value for key, value in held.items() if isinstance(value, float)}
        description = f"{name} of transformers {version()}, as its own code initializes it"
        return recipe_text(
            self.specs, seed=self.seed, description=description, architectures=[name], variables=variables
        )

    def _written(self, path: Any, form: Form) -> Written:
        """What the tensors of the checkpoint hold, and where it goes."""
        if form.format is not None:
            return as_orbax(path, self.model, self.specs)
        beside = Companions() if form.weights_only else self._companions()
        return self.specs, Out(path, self.model, form.shard, beside=beside)

    def _companions(self) -> Companions:
        """The configuration with the class and the dtype of what is written, and what lies beside it."""
        said = dict(self._said)
        if (said.get("architectures") or [None])[0] != type(self.module).__name__:
            said["architectures"] = [type(self.module).__name__]
        if self._dtype is not None:
            said = config_in_dtype(said, self._dtype)
        if said.pop("quantization_config", None) is not None:
            warn(
                f"{self.path}: quantization_config is left out of the new {CONFIG}, as the weights are not quantized; "
                "bigin init --dummy fills a copy of a quantized checkpoint",
                UserWarning,
            )
        own = self.path.read_bytes() if said == self._said else config_text(said)
        beside = companions_of(self.path.parent) if self.path.name == CONFIG else Companions()
        made = beside.with_config(own)
        generation = getattr(self.module, "generation_config", None)
        if "generation_config.json" in made.files or generation is None or not self.module.can_generate():
            return made
        text = generation.to_json_string(use_diff=True)
        return replace(made, files={**made.files, "generation_config.json": text.encode()})


def path_of(config: Any) -> Path:
    """The file of a configuration, given itself or its folder."""
    if not isinstance(config, str | os.PathLike):
        raise InputError(f"expected a configuration's file or folder, got {type(config).__name__}")
    path = Path(expand(config))
    if path.is_dir():
        path = path / CONFIG
    if not path.is_file():
        raise NotFoundError(
            f"{path}: expected a configuration's file or a folder with {CONFIG}, got nothing; nothing is downloaded"
        )
    return path


def torch_dtype(dtype: Any) -> Any:
    """The torch dtype that a model is built in."""
    import torch

    name = dtypes.parse_dtype(dtype).name
    if name not in DTYPES:
        raise InputError(f"expected a dtype among {', '.join(DTYPES)}, in which torch builds models, got {name}")
    return getattr(torch, name)


def name_of(member: Member) -> str:
    """The name of a member's dtype."""
    return str(member.tensor.dtype).removeprefix("torch.")


def kept(module: Any) -> list[Member]:
    """What save_pretrained writes of a model: parameters, each once, and buffers, without those that it ignores."""
    ignored = set(getattr(module, "_keys_to_ignore_on_save", None) or ())
    return [member for member in saved(module) if member.name not in ignored]


@contextmanager
def quiet() -> Iterator[Any]:
    """The module transformers, which tells only errors, and downloads nothing."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise InputError(INSTALL) from None
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield transformers
    finally:
        transformers.logging.set_verbosity(level)


def version() -> str:
    """The version of transformers."""
    from importlib import metadata

    return metadata.version("transformers")


def builder(
    transformers: Any, path: Path, said: Mapping[str, Any], architecture: str | None
) -> tuple[Any, Callable[[Any], Any]]:
    """The configuration as transformers reads it, and what builds its model in a dtype."""
    kind = said.get("model_type")
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if not isinstance(kind, str) or kind not in known:
        hint = similar(kind, known) if isinstance(kind, str) else ""
        code = "; the code that comes with it is run with --trust-remote-code (trust_remote_code=True) alone"
        raise InputError(
            f"{path}: expected a model_type that transformers {version()} has, got {kind!r}{hint}"
            f"{code if 'auto_map' in said else ''}"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(str(path.absolute()), trust_remote_code=False)
    except Exception as error:  # whatever transformers says of a configuration
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected a configuration that transformers takes, got {text}") from None
    listed = said.get("architectures")
    name = architecture or (listed[0] if isinstance(listed, list) and listed else None)
    if name is None:
        return config, automatic(transformers, path, config)
    cls = getattr(transformers, str(name), None)
    if not isinstance(cls, type) or not hasattr(cls, "_from_config"):
        raise InputError(
            f"{path}: expected an architecture that is a model of transformers {version()}, got {name!r}; name another "
            "with --architecture (architecture=)"
        )
    of = getattr(cls, "config_class", None)
    if of is not None and not isinstance(config, of):
        raise InputError(f"{path}: expected a class for {type(config).__name__}, got {name}")
    return config, lambda dtype: built(path, cls._from_config, config, dtype)


def with_own_code(
    transformers: Any, path: Path, said: Mapping[str, Any], architecture: str | None
) -> tuple[Any, Callable[[Any], Any]]:
    """The same for a model whose code lies beside its configuration, which runs it."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    classes, folder = said["auto_map"], str(path.parent.absolute())
    named = {auto: each for auto, each in classes.items() if isinstance(each, str)} if isinstance(classes, dict) else {}
    away = [each for each in named.values() if "--" in each]
    if away:
        raise InputError(
            f"{path}: expected code beside the configuration, got {away[0]} under auto_map, which is elsewhere; "
            "nothing is downloaded: copy its files into the folder and leave out what stands before --"
        )
    if path.name != CONFIG:
        raise InputError(f"{path}: expected {CONFIG} beside the code that its auto_map names, got another name")
    listed = said.get("architectures")
    name = architecture or (listed[0] if isinstance(listed, list) and listed else None)
    known = [each for auto, each in named.items() if auto.startswith("AutoModel")]
    wanted = [each for each in known if each.rpartition(".")[2] == name]
    chosen = wanted or [named[auto] for auto in AUTOMATIC if name is None and auto in named]
    if not chosen:
        models = ", ".join(each.rpartition(".")[2] for each in known) or "no model"
        raise InputError(
            f"{path}: expected a class that auto_map has ({models}), got {name!r}; name one with --architecture "
            "(architecture=)"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
        cls = get_class_from_dynamic_module(chosen[0], folder, local_files_only=True)
    except Exception as error:  # whatever the code does when it is read
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected code that auto_map names, got {type(error).__name__}: {text}") from None
    return config, lambda dtype: built(path, cls._from_config, config, dtype)


def automatic(transformers: Any, path: Path, config: Any) -> Callable[[Any], Any]:
    """What builds the model that transformers has for a configuration that names none."""
    for name in AUTOMATIC:
        auto = getattr(transformers, name)
        if type(config) in auto._model_mapping:
            return lambda dtype, auto=auto: built(path, auto.from_config, config, dtype)  # type: ignore[misc]
    raise InputError(
        f"{path}: expected a configuration with a class under architectures, got none, and none is known for "
        f"{type(config).__name__}; name one with --architecture (architecture=)"
    )


def built(path: Path, make: Callable[..., Any], config: Any, dtype: Any) -> Any:
    """A model on the meta device; raises InputError with what its code says of its configuration."""
    try:
        return make(config, **({} if dtype is None else {"dtype": dtype}))
    except InputError:
        raise
    except Exception as error:  # whatever a model's code does with numbers that do not go together
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: expected a configuration that its class takes, got {type(error).__name__}: {text}"
        ) from None
