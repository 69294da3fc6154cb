"""The Python of pages runs from top to bottom, with small sizes and what a page takes for granted.

why.md, virtual.md, scale.md's commands, the pages of clusters and the tutorials have tests of their own. gpu.md needs a
device, where scripts/check-gpu runs the same calls.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from common import LIMIT, NO_TORCHREC, ROOT, TORCHREC

EXTRAS = {"torch": "torch", "transformers": "transformers"}  # of packages that are not in test-jax

ARRAYS = """
import numpy as np
import bigin
bigin.create("table.zarr", shape=(1000, 64))
array = numpy_array_or_memmap = np.empty((64, 32), np.float32)
"""
LLAMA = """
import bigin, torch, transformers
config = transformers.LlamaConfig(
    vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, architectures=["LlamaForCausalLM"], dtype="bfloat16",
)
config.to_json_file("config.json")
import bigin.torch
"""


@dataclass(frozen=True)
class Page:
    """What runs before a page's code, which of its texts stand for others, and what must be installed.

    between: what runs before some of its blocks. left_out: blocks that are not run.
    """

    before: str
    changes: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    between: dict[int, str] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()


PAGES = {
    "README.md": Page(
        ARRAYS + "local = np.empty((40, 82), np.float32)",
        {"32768, 8192": "320, 82", "slice(4096, 8192)": "slice(40, 80)"},
    ),
    "docs/guide.md": Page(
        ARRAYS + "local, stretch = np.empty((40, 82), np.float32), np.empty(1000, np.float32)",
        {
            "32768, 8192": "320, 82",
            "slice(4096, 8192)": "slice(40, 80)",
            "100_000_000": "10_000",
            "    ...  # slices": "    break  # slices",
        },
    ),
    "docs/tables.md": Page(
        """
import numpy as np
import torch
ids, cold_ids, rows = np.arange(5), [1, 2], np.zeros((5, 64), np.float32)
torch_ids, values, keys = torch.tensor([1, 2]), np.empty((5, 64), np.float32), np.arange(100)
np.save("keys.npy", keys)
""",
        {"200_000_000": "2_000", "250_000_000": "2_500"},
        ("torch",),
    ),
    "docs/recipes.md": Page(
        """
import bigin
from pathlib import Path
Path("recipe.toml").write_text('[vars]\\nn_layers = "required"\\n[default]\\nmethod = "normal"\\nstd = "1 / n_layers"')
Path("like.toml").write_text('[default]\\nmethod = "zeros"')
bigin.create("like.zarr/layers/31/weight", shape=(8, 4))
bigin.initialize("like.toml", "checkpoint", like="like.zarr")
""",
    ),
    "docs/scale.md": Page("import bigin", {"10**10": "10**5", "parts=500": "parts=2", "processes:8": "processes:2"}),
    "docs/models.md": Page(
        LLAMA + "fully_sharded_model = transformers.LlamaForCausalLM(config)", {}, ("transformers",)
    ),
    "docs/surgery.md": Page("import bigin", {}, ("transformers",)),
    "docs/proving.md": Page(
        LLAMA
        + """
from torch import nn
bigin.torch.Configuration("config.json", seed=42).initialize("again")
bigin.torch.Configuration("config.json", seed=42).initialize("out")

def build():
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 16))
    bigin.torch.init_(model, {"*.bias": "zeros", nn.Linear: "kaiming_normal"}, seed=1)
    return model
""",
        {'bigin.verify("again/", recipe="gpt2", variables={"n_layers": 2}, seed=42).equal': ""},
        ("transformers",),
    ),
    "docs/torch.md": Page(
        LLAMA
        + """
import os, shutil, types
from torch import nn
import torch.distributed as dist
from torch.distributed.tensor import Replicate, distribute_tensor, init_device_mesh
LlamaForCausalLM = transformers.LlamaForCausalLM
model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "fc": nn.Linear(4, 4)})
rules = {"*": "normal"}

class Model(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 4), nn.Linear(4, 2))

    def init_weights(self):
        for module in self:
            module.reset_parameters()

class ModelWrapper:
    def __init__(self, module):
        self.module = module
        self.state_dict, self.load_state_dict = module.state_dict, module.load_state_dict
""",
        {"cuda": "cpu"},
        ("transformers",),
        {
            1: "sharded_model = LlamaForCausalLM(config)",
            2: "model = LlamaForCausalLM(config)",
            3: "shutil.rmtree('out')",
            4: "fully_shard = lambda module: module",
            5: "LlamaForCausalLM(config).save_pretrained('checkpoint')",
            6: "model_config, parallelize_fn = types.SimpleNamespace(build=Model), lambda module, *more: module",
            7: "os.makedirs('outputs/checkpoint')",
            9: "sharded_model = Model()",
            10: "inputs, model = torch.randn(3, 8), Model()",
            11: "dist.init_process_group('gloo', rank=0, world_size=1, store=dist.HashStore())\n"
            "dtensor = distribute_tensor(torch.empty(8, 4), init_device_mesh('cpu', (1,)), [Replicate()])\n"
            "fully_sharded_model = Model()",
            13: "import numpy as np\nbigin.fill('table.npy', 'normal', shape=(10, 4))\n"
            "np.zeros(64_064, np.float16).tofile('weights.bin')",
        },
        (12,),  # needs deepspeed; tests/frameworks has its tests
    ),
    "docs/jax.md": Page(
        """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["KERAS_BACKEND"] = "jax"
import flax.linen, flax.nnx, jax, keras
from flax import nnx

class Model(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.head = nnx.Embed(16, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
""",
        {"65536, 8192": "64, 32"},
        ("jax", "flax", "keras"),
    ),
    "docs/torchrec.md": Page(
        f"""
import sys
sys.path.append({str(TORCHREC)!r})
import torch, torchrec
from torch import nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen
import bigin
bigin.fill("users.npy", "normal", shape=(1000, 64))
bigin.fill("movies.zarr", "normal", shape=(500, 64))
""",
        {
            "200_000_000": "1_000",
            "DistributedModelParallel(...)": "Model(users, movies)",
            "ComputeDevice.CPU), ...]": "ComputeDevice.CPU)] * 2",
        },
        (),
        {
            1: """
movies = EmbeddingBagConfig(name="movies", num_embeddings=500, embedding_dim=64, feature_names=["movie"])

class Model(nn.Module):
    def __init__(self, *tables):
        super().__init__()
        self.bags, self.head = torchrec.EmbeddingBagCollection(tables=list(tables)), nn.Linear(128, 1)
""",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs(name):
    page = PAGES[name]
    for package in page.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'bigin[{EXTRAS.get(package, 'test-jax')}]'")
    if name == "docs/torchrec.md" and not TORCHREC.exists() and importlib.util.find_spec("torchrec") is None:
        pytest.skip(NO_TORCHREC)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.S | re.M)
    kept = [number for number in range(len(blocks)) if number not in page.left_out]
    code = "\n".join(f"{page.between.get(number, '')}\n{blocks[number]}" for number in kept)
    for text, other in page.changes.items():
        assert text in code, text
        code = code.replace(text, other)
    done = subprocess.run(
        [sys.executable, "-c", f"{page.before}\n{code}"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
