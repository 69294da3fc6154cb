"""python -m bench.configurations: a checkpoint of a model of transformers from its configuration, in three ways.

transformers builds the model in memory and saves it; torch builds it on the meta device, and then it gets memory, its
own init_weights and is saved; bigin.torch.Configuration writes it. Each runs in a process of its own, up to the disk,
from the configuration on; the peak of memory is what the kernel counted. Imports are not timed. CPU time is that of all
threads, for machines that do other work too.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from bigin.cli.layout import print_table
from bigin.core.text import size_text

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "dtype": "bfloat16",
    "tie_word_embeddings": False,
}  # fmt: skip
START = """
import json, os, resource, sys, time
import torch, transformers
from transformers import AutoConfig, LlamaForCausalLM
import bigin, bigin.torch
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
folder = sys.argv[1]
bigin.fill(folder + ".warm.npy", "normal", shape=(1024, 1024), dtype="bfloat16")
def synced():
    for name in os.listdir(folder + "/out"):
        file = os.open(f"{folder}/out/{name}", os.O_RDONLY)
        os.fsync(file)
        os.close(file)
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
start, used = time.perf_counter(), cpu()
"""
WAYS = {
    "bigin.torch.Configuration": """
bigin.torch.Configuration(folder).initialize(folder + "/out")
""",
    "transformers, save_pretrained": """
LlamaForCausalLM._from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder + "/out")
synced()
""",
    "meta, to_empty, init_weights": """
with torch.device("meta"):
    model = LlamaForCausalLM._from_config(AutoConfig.from_pretrained(folder))
model.to_empty(device="cpu")
for module in model.modules():
    module._is_hf_initialized = False
for parameter in model.parameters():
    parameter._is_hf_initialized = False
model.init_weights()
assert 0.015 < float(model.lm_head.weight.float().std()) < 0.025
model.save_pretrained(folder + "/out")
synced()
""",
}
END = """
seconds = time.perf_counter() - start
print(json.dumps([seconds, cpu() - used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10]))
"""


def measured(way: str, layers: int, folder: Path) -> tuple[float, float, int, int]:
    """Seconds by the wall clock and of CPU time, the peak of memory, and the bytes of the checkpoint."""
    with tempfile.TemporaryDirectory(prefix="bigin-configurations-", dir=folder) as place:
        (Path(place) / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}))
        program = START + WAYS[way] + END
        ran = subprocess.run([sys.executable, "-c", program, place], check=True, stdout=subprocess.PIPE, text=True)
        nbytes = sum(path.stat().st_size for path in (Path(place) / "out").glob("*.safetensors"))
        Path(place + ".warm.npy").unlink()
        Path(place + ".warm.npy.bigin.json").unlink(missing_ok=True)
    seconds, cpu, peak = json.loads(ran.stdout)
    return seconds, cpu, peak, nbytes


@click.command(help="Measure ways to write the checkpoint of a model of transformers from its configuration.")
@click.option("--layers", default=22, show_default=True, help="Layers of a Llama of width 2048: 22 are 2.2 GB.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Samples of each way.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
def main(layers: int, repeats: int, folder: Path) -> None:
    needed = 2 * (layers * 44_000_000 + 131_072_000)
    if shutil.disk_usage(folder).free < needed * 1.2:
        raise click.UsageError(f"expected {size_text(needed)} of disk in {folder}")
    samples: dict[str, list[tuple[float, float, int, int]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            os.sync()
            samples[way].append(measured(way, layers, folder))
    rows = []
    for way, found in samples.items():
        seconds = statistics.median(each[0] for each in found)
        cpu = statistics.median(each[1] for each in found)
        peak = max(each[2] for each in found)
        rate = f"{found[0][3] / seconds / 1e9:.3g}"
        rows.append((way, f"{seconds:.1f}", f"{cpu:.1f}", rate, size_text(peak >> 20 << 20)))
    print_table("medians", ("way", "seconds", "of CPU time", "GB/s", "peak of memory"), rows)


if __name__ == "__main__":
    main()
