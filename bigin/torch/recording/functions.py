"""Functions of torch.nn.init as whole methods, however a model's code has imported them.

A function's code is replaced for a while, not the name under which a module holds it: `from torch.nn.init import
trunc_normal_` then calls ours too. And torch itself returns early from several of them on the meta device.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import init

# The method of each function, and those of its parameters that the method has under the same name.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "uniform_": ("uniform", ("a", "b")),
    "normal_": ("normal", ("mean", "std")),
    "trunc_normal_": ("trunc_normal", ("mean", "std", "a", "b")),
    "constant_": ("constant", ("val",)),
    "ones_": ("ones", ()),
    "zeros_": ("zeros", ()),
    "eye_": ("eye", ()),
    "dirac_": ("dirac", ("groups",)),
    "xavier_uniform_": ("xavier_uniform", ("gain",)),
    "xavier_normal_": ("xavier_normal", ("gain",)),
    "kaiming_uniform_": ("kaiming_uniform", ("a", "mode", "nonlinearity")),
    "kaiming_normal_": ("kaiming_normal", ("a", "mode", "nonlinearity")),
    "orthogonal_": ("orthogonal", ("gain",)),
    "sparse_": ("sparse", ("sparsity", "std")),
}

# Takes the tensor, the method and its parameters, and returns NotImplemented for what torch itself is to do.
Hook = Callable[[Any, str, dict[str, Any]], Any]


@contextmanager
def replaced(hook: Hook, concerns: Callable[[torch.Tensor], bool]) -> Iterator[None]:
    """While it is open, functions of torch.nn.init call `hook` for the tensors that it concerns, and draw nothing."""
    kept = []
    try:
        for name, (method, parameters) in FUNCTIONS.items():
            function = getattr(init, name)
            kept.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))
            call = caller(function, method, parameters, hook, concerns)
            key = f"_bigin_{name}"
            function.__globals__[key] = call
            code = compile(f"def {name}(*args, **kwargs): return {key}(*args, **kwargs)", __file__, "exec")
            function.__defaults__, function.__kwdefaults__ = None, None
            function.__code__ = next(part for part in code.co_consts if isinstance(part, types.CodeType))
        yield
    finally:
        for function, code, defaults, keywords in kept:
            function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keywords
            function.__globals__.pop(f"_bigin_{function.__name__}", None)


def caller(function: Any, method: str, names: tuple[str, ...], hook: Hook, concerns: Any) -> Callable[..., Any]:
    """What runs in place of a function."""
    signature = inspect.signature(function)
    original = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = function.__kwdefaults__

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        tensor = bound.arguments["tensor"]
        if not isinstance(tensor, torch.Tensor) or not concerns(tensor):
            return original(*args, **kwargs)
        done = hook(tensor, method, {name: bound.arguments[name] for name in names})
        return original(*args, **kwargs) if done is NotImplemented else tensor

    return call
