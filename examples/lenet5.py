"""LeNet-5 (LeCun et al. 1998), initialized by rules for the classes of its layers.

    python examples/lenet5.py

Every parameter draws from a stream of its own name: adding a layer, or changing the order of the rules' layers, changes
no other parameter.
"""

from __future__ import annotations

import torch
from torch import nn

import bigin


class LeNet5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5, padding=2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.avg_pool2d(torch.tanh(self.c1(images)), 2)
        x = nn.functional.avg_pool2d(torch.tanh(self.c3(x)), 2)
        x = torch.tanh(self.c5(x)).flatten(1)
        return self.output(torch.tanh(self.f6(x)))


RULES = {
    "*.bias": "zeros",  # the first rule that is for a parameter wins
    nn.Conv2d: ("xavier_uniform", {"gain": "tanh"}),
    (nn.Linear, "weight"): ("xavier_normal", {"gain": "tanh"}),
}


def main() -> None:
    model = LeNet5()
    for filled in bigin.torch.init_(model, RULES, seed=42):
        first = model.get_parameter(filled.name).flatten()[0].item()
        print(f"{filled.name:14} {'x'.join(map(str, filled.shape)):>10}  {filled.method:16} {first:+.6f}")
    with torch.no_grad():
        print("logits", tuple(model(torch.randn(8, 1, 28, 28)).shape))


if __name__ == "__main__":
    main()
