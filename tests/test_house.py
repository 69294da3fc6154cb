"""The rules of the house that no linter knows: short functions, few parameters, and public names that are explained.

Which room may import which is in pyproject.toml, for `lint-imports`; the test here runs it.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from common import ROOT

import bigin
import bigin.init
from bigin.core.collector import paused

PACKAGE = ROOT / "bigin"
FILES = sorted(PACKAGE.rglob("*.py"))
NUMERIC = ("bigin/kernels/", "bigin/rng/")  # numba's functions take arrays and numbers, one by one
PARAMETERS, LINES = 8, 60

# What users call takes a keyword for everything that can be chosen, and its body hands them on.
FACES = {
    "bigin/api/attesting.py": {"attest"},
    "bigin/api/checking.py": {"check"},
    "bigin/api/filling.py": {"fill", "fill_flat"},
    "bigin/api/models.py": {"initialize", "initialize_dummy"},
    "bigin/api/plans.py": {"plan", "plan_initialize", "plan_show", "plan_verify"},
    "bigin/api/previewing.py": {"preview"},
    "bigin/api/signals.py": {"signal"},
    "bigin/api/surgery.py": {"grow_vocabulary"},
    "bigin/api/tables.py": {"EmbeddingTable.create"},
    "bigin/api/verifying.py": {"verify"},
    "bigin/api/serving.py": {"serve"},
    "bigin/api/virtual.py": {"virtual"},
    "bigin/api/virtual_store.py": {"virtual_store"},
    "bigin/api/showing.py": {"show"},
    "bigin/jax/arrays.py": {"array"},
    "bigin/torch/checkpoint.py": {"materialize"},
    "bigin/torch/configuration.py": {"Configuration.__init__", "Configuration.initialize"},
    "bigin/torch/reading.py": {"reader"},
    "bigin/torch/storing.py": {"plan_dcp", "save_dcp"},
    "bigin/torch/embeddings.py": {"fill_quantized"},
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_face(file: str, name: str) -> bool:
    """Whether it is one of FACES, or a function of bigin.init."""
    return name in FACES.get(file, ()) or file == "bigin/init.py"


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(qualified name, node) of every function."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
            inner = f"{prefix}{child.name}." if hasattr(child, "name") and hasattr(child, "body") else prefix
            stack.append((inner, child))


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> int:
    """How many parameters a function has, without self or cls."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return sum(argument is not None and argument.arg not in ("self", "cls") for argument in every)


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines a function has, without its docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


@cache
@paused()
def trees() -> list[tuple[str, ast.Module]]:
    return [(name_of(path), ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def test_every_face_of_the_list_needs_to_be_there():
    held = {(file, name): parameters(node) for file, tree in trees() for name, node in functions(tree)}
    listed = [(file, name) for file, names in FACES.items() for name in names]
    assert [face for face in listed if held.get(face, 0) <= PARAMETERS] == []


def test_functions_are_short_and_take_few_parameters():
    long = []
    for file, tree in trees():
        if file.startswith(NUMERIC):
            continue
        for name, node in functions(tree):
            if lines(node) > LINES:
                long.append(f"{file}:{node.lineno} {name} has {lines(node)} lines")
            if parameters(node) > PARAMETERS and not is_face(file, name):
                long.append(f"{file}:{node.lineno} {name} has {parameters(node)} parameters")
        for node in ast.walk(tree):
            if isinstance(node, ast.Lambda) and (parameters(node) > PARAMETERS or node.end_lineno > node.lineno + 9):
                long.append(f"{file}:{node.lineno} a lambda has {parameters(node)} parameters")
    assert not long, "\n".join(long)


# Functions of Python and of libraries that take a boolean by position.
POSITIONAL = {"append", "get", "getattr", "repeat", "set_visible", "setattr"}


def called(call: ast.Call) -> str:
    """The last part of what is called."""
    return getattr(call.func, "attr", None) or getattr(call.func, "id", "")


def test_no_boolean_is_passed_by_position():
    bare = [
        f"{file}:{node.lineno} {ast.unparse(node)[:100]}"
        for file, tree in trees()
        if not file.startswith(NUMERIC)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) not in POSITIONAL
        if any(isinstance(argument, ast.Constant) and isinstance(argument.value, bool) for argument in node.args)
    ]
    assert not bare, "\n".join(bare)


# Whose signature is that of another library's method, or a property's.
GIVEN = {"__array__", "astype", "set_up_storage_reader", "sync", "with_read_only"}


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether click calls it, which passes everything by name."""
    return any(called(each) == "command" for each in node.decorator_list if isinstance(each, ast.Call))


def test_no_function_takes_a_boolean_by_position():
    takes = [
        f"{file}:{node.lineno} {name}({each.arg})"
        for file, tree in trees()
        if not file.startswith(NUMERIC)
        for name, node in functions(tree)
        if node.name not in GIVEN and not is_command(node)
        for each in [*node.args.posonlyargs, *node.args.args]
        if each.annotation is not None and ast.unparse(each.annotation) in ("bool", "bool | None")
    ]
    assert not takes, "\n".join(takes)


def dataclasses_of(tree: ast.Module) -> dict[str, list[str]]:
    """The types of the fields of every dataclass of a file, by the name of the class."""
    return {
        node.name: [ast.unparse(each.annotation) for each in node.body if isinstance(each, ast.AnnAssign)]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    }


def test_no_field_of_a_dataclass_that_is_a_boolean_is_set_by_position():
    known = {file.removesuffix(".py").replace("/", "."): dataclasses_of(tree) for file, tree in trees()}
    bare = []
    for file, tree in trees():
        if file.startswith(NUMERIC):
            continue
        homes = (each.rpartition(".") for each in imported(tree))
        seen = {name: known[home][name] for home, _, name in homes if name in known.get(home, ())}
        seen |= dataclasses_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and not any(isinstance(each, ast.Starred) for each in node.args):
                types = seen.get(called(node), [])[: len(node.args)]
                if "bool" in types or "bool | None" in types:
                    bare.append(f"{file}:{node.lineno} {ast.unparse(node)[:100]}")
    assert not bare, "\n".join(bare)


# Words that once stood for several classes.
ONE_CLASS = {
    *(
        "Layout",
        "Part",
        "Piece",
        "Plan",
        "Progress",
        "Recipe",
        "Report",
        "Rule",
        "Source",
        "Tensor",
        "Values",
        "Wanted",
    ),
}


def test_each_of_these_words_names_one_class_or_type_at_most():
    held: dict[str, list[str]] = {}
    for file, tree in trees():
        for node in tree.body:
            names = [node.name] if isinstance(node, ast.ClassDef) else []
            names += [e.id for e in node.targets if isinstance(e, ast.Name)] if isinstance(node, ast.Assign) else []
            for name in ONE_CLASS.intersection(names):
                held.setdefault(name, []).append(file)
    assert {name: where for name, where in held.items() if len(where) > 1} == {}


def imported(tree: ast.Module) -> Iterator[str]:
    """What a file imports, at its top or within a function, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_numba_cuda_stays_in_kernels_cuda():
    """import-linter sees only the first part of what is not bigin's."""
    users = {file for file, tree in trees() if any(name.startswith("numba.cuda") for name in imported(tree))}
    assert users
    assert all(file.startswith("bigin/kernels/cuda/") for file in users), users


ZARRS_PRIVATE = {"_async_array", "AsyncArray", "nbytes_stored", "update_shape", "default_buffer_prototype"}


def test_zarrs_private_names_are_used_in_one_file():
    """Also names that are public and documented nowhere. What a data type of our own overrides is no use of them."""

    def private(name: str) -> bool:
        first, *rest = name.split(".")
        return first == "zarr" and (
            "core" in rest or any(part.startswith("_") or part in ZARRS_PRIVATE for part in rest)
        )

    users = {file for file, tree in trees() if any(private(name) for name in imported(tree))}
    users |= {
        file
        for file, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ZARRS_PRIVATE
    }
    assert users == {"bigin/targets/zarr/private.py"}


def test_the_rooms_import_only_what_is_below_them():
    linter = shutil.which("lint-imports", path=Path(sys.executable).parent)
    if linter is None:
        pytest.skip("import-linter is not installed: pip install 'bigin[lint]'")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


def public() -> Iterator[tuple[str, Any]]:
    """Every public name and what it stands for; of classes also the public methods."""
    homes = os.environ.get("BIGIN_HOUSE", "bigin bigin.init bigin.torch").split()  # test_jax.py names others
    if importlib.util.find_spec("torch") is None and "bigin.torch" in homes:
        homes.remove("bigin.torch")
    for home, module in [(home, importlib.import_module(home)) for home in homes]:
        names = getattr(module, "__all__", None) or [name for name in vars(module) if name.endswith("_")]
        for name in names:
            thing = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(thing):
                continue
            yield f"{home}.{name}", thing
            if inspect.isclass(thing) and not issubclass(thing, BaseException):
                for key, value in vars(thing).items():
                    if not key.startswith("_") and (inspect.isroutine(value) or isinstance(value, classmethod)):
                        yield f"{home}.{name}.{key}", getattr(thing, key)


PUBLIC = dict(public())
NEVER_RAISES = {"bigin.register_dtypes", "bigin.torch.rules_like"}


def sections(name: str, thing: Any) -> list[str]:
    """The parts of a docstring that a public name must have and has not."""
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        simple = issubclass(thing, BaseException) or hasattr(thing, "__dataclass_fields__")
        wanted = [] if simple else [">>>"]
        return [part for part in wanted if part not in text] if text else ["docstring"]
    signature = inspect.signature(thing)
    method = name.rpartition(".")[0] in PUBLIC  # its class has the example, and tells what is raised
    wanted = [] if method else [">>>"]
    if any(p.name not in ("self", "cls") for p in signature.parameters.values()):
        wanted.append("Args:")
    if signature.return_annotation not in (None, "None", inspect.Signature.empty):
        wanted.append("Returns:")
    if not method and name not in NEVER_RAISES:
        wanted.append("Raises:")
    return [part for part in wanted if part not in text]


def test_public_names_have_whole_docstrings():
    lacking = [f"{name}: {', '.join(parts)}" for name, thing in PUBLIC.items() if (parts := sections(name, thing))]
    assert not lacking, "\n".join(lacking)


def examples() -> list[Any]:
    """The examples of the public names, each once where a name has an alias."""
    finder = doctest.DocTestFinder(recurse=False)
    names = {
        "bigin": bigin,
        "np": np,
        "zarr": zarr,
        **{m: sys.modules.get(m) for m in ("torch", "jax", "keras")},
    }  # as every example expects
    once = {id(getattr(thing, "__func__", thing)): (name, thing) for name, thing in reversed(PUBLIC.items())}
    return [
        pytest.param(test, id=name)
        for name, thing in reversed(once.values())
        for test in finder.find(thing, name, globs=names)
        if test.examples
    ]


@pytest.mark.parametrize("example", examples())
def test_the_example_of_a_public_name(example):
    """Run in the empty folder that every test has."""
    if example.name == "bigin.torch.Configuration":
        pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[test-models]'")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    text: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=flags).run(example, out=text.append, clear_globs=False)
    assert not failed, "".join(text)
