"""The URLs of objects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError
from bigin.targets.paths import is_url

PROVIDERS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "azure": "azure", "abfs": "azure"}


@dataclass(frozen=True)
class Url:
    """A place in a store: the provider, the bucket (in Azure: the container), and the key, which may be empty."""

    scheme: str
    bucket: str
    key: str

    @property
    def provider(self) -> str:
        """What the store speaks: s3, gcs or azure."""
        return PROVIDERS[self.scheme]

    @property
    def root(self) -> str:
        """The URL of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"


def is_cloud(target: Any) -> bool:
    """Whether a target is the URL of something in a store that obstore knows."""
    return is_url(target) and os.fsdecode(target).partition("://")[0].lower() in PROVIDERS


def parse_url(target: Any) -> Url:
    """The parts of such a URL; raises InputError where it names no bucket."""
    text = os.fsdecode(target)
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise InputError(f"{text}: expected {scheme}://BUCKET/KEY, got no bucket")
    parts = [part for part in key.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise InputError(f"{text}: expected a key without . and .. in it")
    return Url(scheme.lower(), bucket, "/".join(parts))
