"""The files that lie beside a checkpoint's weights, without which no library builds the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bigin.core.disk import replace_file
from bigin.core.errors import ExistsError
from bigin.targets.safetensors.documents import parse_document, read_document

CONFIG = "config.json"
PATTERNS = (  # of a configuration, tokenizers and processors, and of the code that comes with a model
    *(CONFIG, "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab*.json", "vocab.txt", "merges.txt", "normalizer.json", "*.model", "*.tiktoken", "*.spm", "*.jinja"),
    *("chat_template.json", "preprocessor_config.json", "*processor_config.json"),
    *("configuration_*.py", "modeling_*.py", "tokenization_*.py", "processing_*.py", "image_processing_*.py"),
)
LARGEST = 1 << 24  # bytes of a configuration
DTYPE_KEYS = ("dtype", "torch_dtype")  # transformers' names of a checkpoint's dtype, the newer first


@dataclass(frozen=True)
class Companions:
    """Files by name: each the path of what is copied, or the bytes."""

    files: Mapping[str, Path | bytes] = field(default_factory=dict)

    def content(self, name: str) -> bytes:
        """The bytes of a file."""
        held = self.files[name]
        return held.read_bytes() if isinstance(held, Path) else held

    def check(self, folder: Path, *, overwrite: bool) -> None:
        """Raises ExistsError where a file would replace another of the same name, and that was not asked for."""
        for name in () if overwrite else self.files:
            path = folder / name
            if path.exists() and path.read_bytes() != self.content(name):
                raise ExistsError(
                    f"{path}: expected no file or the same one, got another; give --overwrite (overwrite=True) to "
                    "replace it, or --weights-only (weights_only=True) to keep it"
                )

    def write(self, folder: Path) -> None:
        """Writes the files that are not there yet."""
        for name in self.files:
            path, content = folder / name, self.content(name)
            if not path.exists() or path.read_bytes() != content:
                replace_file(path, content)

    def remove(self, folder: Path) -> None:
        """Removes the files, the last first."""
        for name in reversed(list(self.files)):
            (folder / name).unlink(missing_ok=True)

    def with_config(self, content: bytes) -> Companions:
        """The same with another configuration."""
        return replace(self, files={**self.files, CONFIG: content})


def companions_of(folder: Path) -> Companions:
    """The files beside the weights of a checkpoint's folder."""
    found = {path.name: path for pattern in PATTERNS for path in sorted(folder.glob(pattern)) if path.is_file()}
    return Companions(dict(sorted(found.items())))


def read_config(path: Path) -> dict[str, Any]:
    """What a configuration says; raises InputError where it is none."""
    return read_document(path, "a configuration", LARGEST, parse_config)


def parse_config(text: bytes, label: str) -> dict[str, Any]:
    """What the text of a configuration says; raises InputError where it is none."""
    return parse_document(text, "a configuration", label)


def config_in_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A configuration that says another dtype, and so do those within it."""
    said = {
        key: config_in_dtype(value, dtype) if isinstance(value, dict) and any(k in value for k in DTYPE_KEYS) else value
        for key, value in config.items()
    }
    held = [key for key in DTYPE_KEYS if key in config] or ["dtype"]
    return said | dict.fromkeys(held, dtype)


def config_text(config: Mapping[str, Any]) -> bytes:
    """A configuration's file, as transformers writes it."""
    return json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n"
