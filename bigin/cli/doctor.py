"""bigin doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from bigin.cli.commands import Command
from bigin.cli.options import PATH, json_option, storage_option
from bigin.cli.printing import print_entries
from bigin.core.text import counted, rate_text, size_text

HELP = """Show what this machine offers: versions, CPU, GPU, memory, the cache of kernels, disk, stores.

The disk speed is measured in FOLDER, by default the current folder, by writing a file for two seconds. FOLDER may be
the URL of a store, such as s3://bucket/folder: then its credentials, permissions and speed are checked.
"""


@click.command(cls=Command, help=HELP, short_help="Show versions, CPU, GPU, memory, cache and disk speed.")
@click.argument("folder", type=PATH, default=".")
@storage_option
@json_option
def doctor(folder: str, as_json: bool) -> None:
    """Show what this machine offers."""
    from bigin.inspect.machine import examine

    facts = examine(folder)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        print_entries((name, list(lines)) for name, lines in sections(facts))


def sections(facts: dict[str, Any]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield each section's title and lines."""
    yield "versions", _versions(facts["versions"])
    yield "CPU", _cpu(facts["cpu"])
    yield "GPU", _gpu(facts["gpu"])
    yield "memory", _memory(facts["memory"])
    yield "compiled kernels", _cache(facts["cache"])
    if "store" in facts:
        yield "store", _store(facts["store"])
    else:
        yield "disk", _disk(facts["disk"])
    yield "stores", _stores(facts["stores"])


def _versions(versions: dict[str, str | None]) -> Iterator[str]:
    yield ", ".join(f"{package} {version}" for package, version in versions.items() if version)
    yield "not installed: " + (", ".join(package for package, version in versions.items() if not version) or "none")


def _cpu(cpu: dict[str, Any]) -> Iterator[str]:
    yield f"{cpu['name']}, {cpu['usable_cores']} of {counted(cpu['cores'], 'core')} usable, {' '.join(cpu['features'])}"
    tiles = ", ".join(f"{rows} x {columns} in {dtype}" for dtype, (rows, columns) in cpu["tile"].items())
    yield f"kernels for {cpu['instruction_set']}; tile of matrix products: {tiles}"


def _gpu(gpu: dict[str, Any]) -> Iterator[str]:
    if gpu["usable"]:
        yield f"{gpu['name']}, {gpu['count']} in all, {size_text(gpu['free'])} free"
    else:
        yield f"none: {gpu['reason']}"


def _memory(memory: dict[str, Any]) -> Iterator[str]:
    default = size_text(memory["default_max_memory"])
    yield f"{size_text(memory['available'])} available; --max-memory is {default} by default"
    limits = {
        "address space": memory["address_space_limit"],
        "file size": memory["file_size_limit"],
    }
    texts = [f"{what} {size_text(limit)}" for what, limit in limits.items() if limit is not None]
    files = memory["open_files_limit"]
    yield "limits: " + ", ".join([*texts, f"open files {'unlimited' if files is None else files}"])


def _cache(cache: dict[str, Any]) -> Iterator[str]:
    if cache["folder"] is None:
        yield "not kept, as BIGIN_CACHE_DIR is empty"
        return
    written = "" if cache["writable"] else "; cannot be written: set BIGIN_CACHE_DIR to another folder"
    yield f"{cache['folder']}: {counted(cache['files'], 'file')}, {size_text(cache['bytes'])}{written}"


def _disk(disk: dict[str, Any]) -> Iterator[str]:
    if disk["write_speed"] is None:
        speed = f"not measured: {disk['reason'] or 'too little space'}"
    else:
        speed = f"writes {rate_text(disk['write_speed'])}, synced every 16 MiB"
    yield f"{disk['folder']}: {size_text(disk['free'])} free; {speed}"


def _store(store: dict[str, Any]) -> Iterator[str]:
    if store["reason"]:
        yield f"cannot be used: {store['reason']}"
        return
    speed = f"{rate_text(store['write_speed'])} by {counted(store['requests'], 'request')} at once"
    yield f"{store['url']}: can be listed, read and written; takes {speed}"
    lock = "a lock keeps other writers away" if store["create_only"] else "no lock keeps other writers away"
    yield f"{'honours' if store['create_only'] else 'does not honour'} create-only requests: {lock}"


def _stores(stores: dict[str, bool]) -> Iterator[str]:
    from bigin.inspect.machine import STORES

    yield "can be opened: " + ", ".join(["local folders", *(store for store, there in stores.items() if there)])
    if missing := [f"{store} ({STORES[store]})" for store, there in stores.items() if not there]:
        yield "need a package: " + ", ".join(missing)
