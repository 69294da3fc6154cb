"""Recipes: the expressions, the patterns, the lines of errors, and what each tensor is given."""

from __future__ import annotations

import math
import operator
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import bigin
from bigin.methods import table
from bigin.methods.distributions import Constant, Normal, TruncNormal, Uniform
from bigin.recipes import read, recipe
from bigin.recipes.assign import Assignment, assign
from bigin.recipes.check import doubts
from bigin.recipes.expression import parse_expression
from bigin.recipes.glob import Template, parse_glob
from bigin.recipes.read import parse_recipe
from bigin.recipes.recipe import Tensor
from bigin.recipes.source import TomlText

# Expressions


@st.composite
def expressions(draw: Any, depth: int = 0) -> tuple[str, Any]:
    """An expression's text, and a function that works it out with numpy's float64, one rounding an operation."""
    kind = draw(
        st.sampled_from(["number", "variable", "shape"] + ["operator", "function", "power", "minus"] * (depth < 4))
    )
    if kind == "number":
        text = draw(st.sampled_from(["0.02", "2", "3", "1e-3", "10000000000000001", ".5", "7.", "1_000"]))
        return text, lambda n: np.float64(text.replace("_", ""))
    if kind == "variable":
        name = draw(st.sampled_from(["n_layers", "x", "ndim", "fan_in"]))
        return name, lambda n: np.float64(n[name])
    if kind == "shape":
        axis = draw(st.integers(-2, 1))
        return f"shape[{axis}]", lambda n: np.float64(n["shape"][axis])
    left, f = draw(expressions(depth + 1))
    if kind == "minus":
        return f"-({left})", lambda n: -f(n)
    if kind == "power":
        exponent = draw(st.integers(-5, 5))

        def power(n: Any) -> Any:
            product = np.float64(1)
            for _ in range(abs(exponent)):
                product = product * f(n)
            return product if exponent >= 0 else np.float64(1) / product

        return f"({left}) ** ({exponent})", power
    right, g = draw(expressions(depth + 1))
    if kind == "function":
        name = draw(st.sampled_from(["sqrt", "min", "max"]))
        if name == "sqrt":
            return f"sqrt({left})", lambda n: np.sqrt(f(n))
        choose = min if name == "min" else max
        return f"{name}({left}, {right})", lambda n: choose(f(n), g(n))
    sign, apply = draw(
        st.sampled_from([("+", operator.add), ("-", operator.sub), ("*", operator.mul), ("/", operator.truediv)])
    )
    return f"({left}) {sign} ({right})", lambda n: apply(f(n), g(n))


NAMES = {"n_layers": 32.0, "x": -0.1, "shape": (768, 3), "ndim": 2.0, "fan_in": 3.0}


@given(expressions())
def test_an_expression_is_float64_arithmetic_rounded_at_every_operation(expression):
    text, work_out = expression
    with np.errstate(all="ignore"):
        expected = float(work_out(NAMES))
    if math.isfinite(expected):
        try:
            value = parse_expression(text).value(NAMES)
        except bigin.InputError:
            return  # 1 / (1 / 0) is 0 for numpy
        assert value == expected
        assert math.copysign(1, value) == math.copysign(1, expected)
    else:
        with pytest.raises(bigin.InputError, match="expected a"):
            parse_expression(text).value(NAMES)


def test_the_issues_expression():
    assert parse_expression("0.02 / sqrt(2 * n_layers)").value(NAMES) == 0.02 / math.sqrt(64)
    assert parse_expression(" 2 ** 3 ** 2 - 7 ").value({}) == 505
    assert parse_expression("min(shape[0], 5, shape[-1]) ** -2").value(NAMES) == 1 / 9
    third = parse_expression("1 / 3").value({})
    assert abs(Fraction(third) - Fraction(1, 3)) <= Fraction(1, 2**55)


BAD_EXPRESSIONS = [
    "9**9**9", "9**99", "2**0.5", "2**n_layers**n_layers", "1e999", "9" * 390, "-" * 390 + "1", "(" * 390, "1/0",
    "1/(1-1)", "sqrt(-1)", "0 ** -1", "True", "None", "1j", "x if x else x", "x < 1", "not x", "[1]", "x[0]", "shape",
    "shape[x]", "shape[0:1]", "shape[0][0]", "shape[5]", "sqrt", "sqrt()", "sqrt(1, 2)", "min()", "min(*x)", "abs(1)",
    "x.real", "__import__", "().__class__", "lambda: 1", "1.5 // 2", "1 % 0", "1 @ 2", "1 << 9", "~1", "1,", "1 1",
    "'a'", "", " ", "x\n", "x#", "\0", "é", "1" * 401, "+".join("1" * 150),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_EXPRESSIONS, ids=lambda text: text[:20])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises((bigin.InputError, KeyError)) as error:
        parse_expression(text).value(NAMES)
    assert error.type is bigin.InputError or text == "__import__"  # a name like others, which nobody declares


@given(st.text(max_size=60) | st.text("0123456789.+-*/()[]e x,", max_size=420))
@example("(" * 400)
@example("1if 2else 3")
def test_any_text_is_an_expression_or_an_input_error(text):
    def work_out() -> None:
        expression = parse_expression(text)
        expression.value(dict.fromkeys(expression.names, 2.0) | {"shape": (2, 3)})

    assert "\n" not in refusal(work_out)


def refusal(call: Any) -> str:
    """The message of the InputError that a call raises; nothing where it raises none."""
    try:
        call()
    except bigin.InputError as error:
        return str(error)
    return ""


# Patterns


@pytest.mark.parametrize(
    ("pattern", "name", "stars"),
    [
        ("*.weight", "conv.weight", ("conv",)),
        ("*.weight", "weight", None),
        ("*weight", "weight", ("",)),
        ("*", "", ("",)),
        ("*.conv*.weight", "a.conv1.b.weight", ("a", "1.b")),
        ("*.h.*.w", "x.h.h.3.w", ("x", "h.3")),
        ("layers.*.w", "layers/0/w", ("0",)),
        ("layers/*/w", "layers.0.w", ("0",)),
        ("*.w", "a/b/w", ("a/b",)),
        ("h.[0-9].?", "h.3.w", ()),
        ("h.[!0-9].?", "h.3.w", None),
        ("h.[]x].w", "h.].w", ()),
        ("a.b", "axb", None),
        ("a**b", "axxb", ("xx",)),
        ("w", "w\n", None),
        ("*", "a\nb", ("a\nb",)),
        ("a[*].*", "a*.b", ("b",)),
        ("a[*]", "ab", None),
        ("[*?[]*", "[w", ("w",)),
    ],
)
def test_a_pattern_matches_names_and_tells_what_its_stars_stand_for(pattern, name, stars):
    assert parse_glob(pattern).match(name) == stars


@given(st.text("ab*?[]!-./", min_size=1, max_size=30), st.text("ab./", max_size=20))
def test_any_pattern_is_read_or_refused_and_matches_as_the_definition_says(pattern, name):
    try:
        glob = parse_glob(pattern)
    except bigin.InputError:
        return
    stars = glob.match(name)
    if "[" not in pattern:
        assert (stars is not None) == obvious_match(pattern.replace("/", "."), name.replace("/", "."))
    if stars is not None and set(pattern) <= set("ab*."):
        made = Template(re.sub(r"\*+", "*", pattern)).name(name, stars)
        assert made.replace("/", ".") == name.replace("/", ".")


def test_a_template_follows_the_tensor_in_what_joins_the_parts_of_a_name():
    assert Template("*.q_proj.{}").name("h.0.qkv", ("h.0",), 2) == "h.0.q_proj.2"
    assert Template("*.q_proj.{}").name("h/0/qkv", ("h/0",), 2) == "h/0/q_proj/2"


def obvious_match(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(obvious_match(pattern[1:], name[i:]) for i in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and obvious_match(pattern[1:], name[1:])


def test_matching_a_hostile_pattern_takes_no_time():
    assert parse_glob("a*" * 199 + "b").match("a" * 100_000) is None


# Lines

DOCUMENT = '''# a comment
seed = 3          # line 2

[vars]
n = 2
"m" = "n * 3"
[[rule]]
match = [
  "a",
  # inside
  "b",
]
method = """
ones"""
[[rule]]
split.axis = 0
split.sizes = [1,
  2]
[rule.more]
x = 1
[default]
method = "zeros"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("seed",), 2), (("vars",), 4), (("vars", "n"), 5), (("vars", "m"), 6), (("rule",), 7), (("rule", 0), 7),
        (("rule", 0, "match"), 8), (("rule", 0, "match", 1), 8), (("rule", 0, "method"), 13), (("rule", 1), 15),
        (("rule", 1, "split"), 16), (("rule", 1, "split", "sizes"), 17), (("rule", 1, "more", "x"), 20),
        (("default",), 21), (("default", "method"), 22), (("nothing",), None), (("rule", 2), None),
    ],
)  # fmt: skip
def test_the_line_of_a_key(path, line):
    assert TomlText("r.toml", DOCUMENT).line(path) == line


@given(
    st.lists(
        st.sampled_from(["k{} = 1", "k{} = [\n1,\n2]", "# c{}", "", 'k{} = """\n# x = 1\n"""', "[t{}]\nk = 1"]),
        max_size=40,
    )
)
def test_the_line_of_every_key_of_any_document(statements):
    lines: list[str] = []
    places: dict[str, int] = {}
    inside = ""
    for i, statement in enumerate(statements):
        text = statement.format(i)
        if text.startswith("["):
            inside = f"t{i}"
            places[inside] = len(lines) + 1
        elif text.startswith("k"):
            places[f"{inside}/k{i}".lstrip("/")] = len(lines) + 1
        lines += text.split("\n")
    source = TomlText("r.toml", "\n".join(lines))
    assert {path: source.line(tuple(path.split("/"))) for path in places} == places


@pytest.mark.slow
def test_a_file_that_makes_lines_hard_to_find_still_gives_its_error_soon():
    text = "x = [\n" + "1,\n" * 40_000 + "]\n"
    with pytest.raises(bigin.InputError, match="expected a key among"):
        parse_recipe(text)


# Recipes

MODEL = [
    Tensor("wte.weight", (50, 8), "float32"),
    Tensor("h.0.attn.c_attn.weight", (24, 8), "float32"),
    Tensor("h.0.attn.c_attn.bias", (24,), "float32"),
    Tensor("h.1.mlp.c_proj.weight", (8, 32), "bfloat16"),
    Tensor("h.1.ln.weight", (8,), "float32"),
    Tensor("h.1.conv.weight", (6, 3, 5, 5), "float32"),
    Tensor("step", (), "int64"),
]


def assigned(recipe: str, *names: str, **given_variables: Any) -> list[Assignment]:
    tensors = [tensor for tensor in MODEL if tensor.name in names] if names else MODEL
    return assign(parse_recipe(recipe, "r.toml", given_variables), tensors)


def the(assignments: list[Assignment]) -> Any:
    """The distribution of the only part of the only tensor."""
    ((part,),) = (assignment.parts for assignment in assignments)
    return part.distribution


ISSUE = """
seed = 42
[[rule]]
match  = "*.conv*.weight"
method = "kaiming_normal"
mode   = "fan_out"
[[rule]]
match  = ["*ln*.weight"]
method = "ones"
[[rule]]
match  = "*.c_proj.weight"
method = "normal"
std    = "0.02 / sqrt(2 * n_layers)"
[default]
method = "zeros"
[vars]
n_layers = 32
"""


def test_the_issues_recipe():
    recipe = parse_recipe(ISSUE)
    assert recipe.seed == 42
    found = {a.tensor.name: (a.rule.label, a.parts[0].distribution) for a in assign(recipe, MODEL)}
    assert found["h.1.conv.weight"] == ("rule 1", Normal(0.0, math.sqrt(2) / math.sqrt(6 * 25)))
    assert found["h.1.ln.weight"] == ("rule 2", Constant(1))
    assert found["h.1.mlp.c_proj.weight"] == ("rule 3", Normal(0.0, 0.02 / math.sqrt(64)))
    assert found["step"] == ("default", Constant(0))
    assert list(found) == [tensor.name for tensor in MODEL]


def test_the_first_rule_that_matches_wins():
    rules = ['[[rule]]\nmatch = "*.weight"\nmethod = "ones"\n', '[[rule]]\nmatch = "*"\nmethod = "zeros"\n']
    assert the(assigned("".join(rules), "wte.weight")) == Constant(1)
    assert the(assigned("".join(reversed(rules)), "wte.weight")) == Constant(0)


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("ndim = 1", ["h.0.attn.c_attn.bias", "h.1.ln.weight"]),
        ("ndim = [0, 4]", ["h.1.conv.weight", "step"]),
        ('dtype = "bfloat16"', ["h.1.mlp.c_proj.weight"]),
        ('dtype = ["int64", "bfloat16"]', ["h.1.mlp.c_proj.weight", "step"]),
        ('shape = ["*", 8]', ["wte.weight", "h.0.attn.c_attn.weight"]),
        ('shape = [50, "2 * n / 2"]', ["wte.weight"]),
        ('shape = ["*"]', ["h.0.attn.c_attn.bias", "h.1.ln.weight"]),
        ("shape = []", ["step"]),
        ('shape = ["*", "*"]\ndtype = "float32"', ["wte.weight", "h.0.attn.c_attn.weight"]),
    ],
)
def test_conditions_on_shape_ndim_and_dtype(condition, names):
    text = f'[vars]\nn = 8\n[[rule]]\nmatch = "*"\nmethod = "ones"\n{condition}\n[default]\nmethod = "zeros"'
    assert [a.tensor.name for a in assigned(text) if a.rule.number] == names


def test_tensors_that_no_rule_matches_are_listed():
    with pytest.raises(bigin.InputError, match=r"none for wte.weight, h.1.mlp.c_proj.weight; add a \[\[rule\]\]"):
        assigned('[[rule]]\nmatch = "*.h.*"\nmethod = "ones"', "wte.weight", "h.1.mlp.c_proj.weight")
    many = [Tensor(f"t{i}", (1,), "float32") for i in range(1000)]
    with pytest.raises(bigin.InputError, match="t9 and 990 more"):
        assign(parse_recipe('[[rule]]\nmatch = "x"\nmethod = "ones"'), many)


@pytest.mark.parametrize(
    ("layout", "shape", "fans"),
    [
        ('layout = "linear"', (20, 30), (30, 20)),
        ("", (20, 30, 5), (150, 100)),
        ('layout = "transposed"', (20, 30), (20, 30)),
        ('layout = "transposed"', (5, 5, 20, 30), (500, 750)),
        ('layout = "conv_transpose"', (20, 30, 3, 3), (180, 270)),
        ('layout = "depthwise"', (20, 1, 3, 3), (9, 9)),
        ('layout = "embedding"', (1000, 16), (16, 16)),
        ("in_axis = 0\nout_axis = [1, 2]", (2, 3, 4, 5), (10, 60)),
        ("batch_axis = 0\nin_axis = -1\nout_axis = 1", (7, 3, 4), (4, 3)),
    ],
)
def test_layouts_say_which_fans_count(layout, shape, fans):
    tensor = Tensor("w", shape, "float32")
    head = f'[[rule]]\nmatch = "*"\n{layout}\n'
    uniform = assign(parse_recipe(f'{head}method = "uniform"\na = "-fan_in"\nb = "fan_out"'), [tensor])
    assert the(uniform) == Uniform(-fans[0], fans[1])
    xavier = the(assign(parse_recipe(f'{head}method = "xavier_normal"'), [tensor]))
    assert xavier == Normal(0.0, math.sqrt(2 / sum(fans)))
    kaiming = assign(parse_recipe(f'{head}method = "kaiming_normal"\nnonlinearity = "linear"'), [tensor])
    assert the(kaiming) == Normal(0.0, 1 / math.sqrt(fans[0]))


def test_a_bias_goes_by_the_fans_of_its_weight_where_there_is_one():
    rule = (
        '[[rule]]\nmatch = "*.bias"\nmethod = "uniform"\nfans_of = "*.weight"\na = "-1/sqrt(fan_in)"\nb = "1/fan_out"\n'
    )
    text = rule + '[default]\nmethod = "zeros"'
    both = assigned(text, "h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias")
    assert both[1].parts[0].distribution == Uniform(-1 / math.sqrt(8), 1 / 24)
    assert the(assigned(text, "h.0.attn.c_attn.bias")) == Constant(0)  # no weight beside it
    norm = [Tensor("n.weight", (8,), "float32"), Tensor("n.bias", (8,), "float32")]
    assert [a.rule.label for a in assign(parse_recipe(text), norm)] == ["default", "default"]  # one without fans


def test_the_layer_is_the_first_number_in_a_name():
    text = '[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = "layer + 1"'
    recipe = parse_recipe(text, "r.toml")
    for name, layer in [("h.7.experts.3.w", 7), ("a/12/w", 12), ("3.w", 3), ("x.4", 4), ("conv2d.1x.05.w", 5)]:
        assert the(assign(recipe, [Tensor(name, (2,), "float32")])) == Normal(0.0, layer + 1.0)
    with pytest.raises(bigin.InputError, match=r"r.toml, line 4: std: conv1.w: expected a name with the number"):
        assign(recipe, [Tensor("conv1.w", (2,), "float32")])


def test_variables_are_given_from_outside_or_required():
    text = '[vars]\nn = "required"\nm = "2 * n"\n[default]\nmethod = "normal"\nstd = "m"'
    assert the(assigned(text, "step", n=3)) == Normal(0.0, 6.0)
    assert the(assigned(text, "step", n="1 / 4", m=9)) == Normal(0.0, 9.0)
    with pytest.raises(bigin.InputError, match=r"r.toml, line 2: vars.n: expected a value, .* --var n=\.\.\."):
        assigned(text)
    with pytest.raises(bigin.InputError, match=r"expected a variable that the recipe declares \(n, m\), got k"):
        assigned(text, n=1, k=1)


def test_gains_and_whole_numbers():
    text = '[[rule]]\nmatch = "*"\nndim = 2\nmethod = "xavier_normal"\ngain = "{}"'
    tensor = [Tensor("w", (2, 2), "float32")]
    assert the(assign(parse_recipe(text.format("relu")), tensor)) == Normal(0.0, math.sqrt(2) * math.sqrt(0.5))
    assert the(assign(parse_recipe(text.format("shape[0] / 4")), tensor)) == Normal(0.0, 0.5 * math.sqrt(0.5))
    text = '[default]\nmethod = "constant"\nval = "2 * {}"'
    assert the(assign(parse_recipe(text.format("shape[0]")), tensor)) == Constant(4)
    assert type(the(assign(parse_recipe(text.format("shape[0]")), tensor)).value) is int
    kernel = [Tensor("w", (4, 2, 3), "float32")]
    groups = assign(parse_recipe('[default]\nmethod = "dirac"\ngroups = "shape[0] / 2"'), kernel)
    assert groups[0].parts[0].parameters == {"groups": 2}


# Fused tensors


def split_of(split: str, tensor: Tensor, extra: str = 'method = "xavier_normal"') -> Assignment:
    recipe = parse_recipe(f'[vars]\nk = 2\n[[rule]]\nmatch = "*.qkv.w"\nsplit = {split}\n{extra}', "r.toml")
    return assign(recipe, [tensor])[0]


FUSED = Tensor("m.3.qkv.w", (12, 5), "float32")


def test_the_parts_of_a_fused_tensor_have_names_shapes_and_fans_of_their_own():
    found = split_of('{axis = 0, sizes = [8, "k", "shape[0] / 6"], names = ["*.q.w", "*.k.w", "*.v.w"]}', FUSED)
    assert found.axis == 0
    assert [(part.name, part.shape) for part in found.parts] == [
        ("m.3.q.w", (8, 5)), ("m.3.k.w", (2, 5)), ("m.3.v.w", (2, 5))
    ]  # fmt: skip
    assert [part.distribution for part in found.parts] == [Normal(0.0, math.sqrt(2 / fans)) for fans in (13, 7, 7)]


def test_equal_parts_and_stacked_ones():
    found = split_of('{axis = -1, parts = 5, names = "*.part{}.w"}', FUSED)
    assert (found.axis, found.parts[4].name, found.parts[4].shape) == (1, "m.3.part4.w", (12, 1))
    stacked = Tensor("m.3.qkv.w", (6, 4, 5), "float32")
    found = split_of('{axis = 0, stack = true, names = "*.experts.{}.w"}', stacked)
    assert [part.name for part in found.parts] == [f"m.3.experts.{i}.w" for i in range(6)]
    assert {part.shape for part in found.parts} == {(4, 5)}
    assert found.parts[0].distribution == Normal(0.0, math.sqrt(2 / 9))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "{axis = 0, sizes = [8, 2], names = ['a', 'b']}",
            "line 5: split: m.3.qkv.w: expected sizes that add up to 12",
        ),
        ("{axis = 2, parts = 2, names = '{}'}", "expected an axis of shape"),
        ("{axis = 0, parts = 5, names = '{}'}", "expected parts that divide 12"),
        ("{axis = 0, parts = 2, names = ['a', 'a']}", "expected a different name for every part"),
        ("{axis = 0, parts = 3, names = ['a', 'b']}", "expected 3 names"),
        ("{axis = 0, parts = 'k / 4', names = '{}'}", "expected whole numbers, got k / 4 = 0.5"),
        ("{axis = 0, sizes = [13, -1], names = ['a', 'b']}", "expected sizes that add up"),
        ("{axis = 0, sizes = [6, 6], names = ['a']}", "expected 2 names, one for every size"),
        ("{axis = 0, parts = 2, names = 'a'}", "expected a list of names, or one with {}"),
        ("{axis = 0, parts = 2, names = ['*.*', 'b']}", r"line 5: split.names: expected at most 1 stars"),
        ("{axis = 0, parts = 2}", "expected names"),
        ("{axis = 0, parts = 2, sizes = [6, 6], names = '{}'}", "expected axis and one of sizes, parts and stack"),
        ("{parts = 2, names = '{}'}", "expected axis and one of"),
        ("{axis = true, parts = 2, names = '{}'}", "split.axis: expected an axis, got True"),
        ("{axis = 0, sizes = [], names = '{}'}", "split.sizes: expected sizes, got none"),
        ("{axis = 0, parts = 'x', names = '{}'}", "split.parts: expected names among k"),
        ("{axis = 0, part = 2}", "split.part: expected a key among"),
        ("3", "split: expected a table such as"),
    ],
)
def test_splits_that_do_not_go_together_are_refused(split, message):
    with pytest.raises(bigin.InputError) as error:
        split_of(split, FUSED)
    assert message in str(error.value)


def test_a_split_of_more_parts_than_anyone_has_is_refused_before_they_are_made():
    tensor = Tensor("m.3.qkv.w", (10**12, 2), "float32")
    for split in ("{axis = 0, stack = true, names = '{}'}", "{axis = 0, parts = 'shape[0]', names = '{}'}"):
        with pytest.raises(bigin.InputError, match="expected at most 100000 parts"):
            split_of(split, tensor, 'method = "ones"')


# Errors

RULE = '[[rule]]\nmatch = "*"\nmethod = "normal"\n'
BAD = [
    ("", "r.toml: expected rules"),
    ("x = = 1", "r.toml, line 1: expected TOML"),
    ("\n\nseed = 1\nseed = 2", "r.toml, line 4: expected TOML: Cannot overwrite a value"),
    ("sed = 1", "r.toml, line 1: sed: expected a key among seed, description"),
    ("seed = -1", "line 1: seed: expected a seed from 0 to 2^64 - 1, got -1"),
    ("seed = 1.0", "line 1: seed: expected an integer, got 1.0"),
    ("seed = true", "line 1: seed: expected an integer, got True"),
    ("seed = 0x1" + "0" * 5000, "r.toml: expected TOML, got numbers that are too large or lists"),
    ("a = " + "[" * 5000, "r.toml: expected TOML"),
    ("rule = 1", "line 1: expected tables, each headed [[rule]]"),
    ("rule = [1]", "line 1: expected a table, got 1"),
    ("[rule]\nmatch = '*'", "expected tables, each headed [[rule]]"),
    ("[vars]\nshape = 1", "line 2: vars.shape: expected a name of letters"),
    ("[vars]\n'a b' = 1", "line 2: vars.a b: expected a name of letters"),
    ("[vars]\nn = [1]", "line 2: vars.n: expected a number or an expression"),
    ("[vars]\nn = nan", "line 2: vars.n: expected names among shape"),
    ("[vars]\nn = 'm'\nm = 1", "line 2: vars.n: expected names among shape, ndim"),
    ("[vars]\nn = 'shape[0]'", "line 2: vars.n: expected numbers and variables declared above"),
    ("[vars]\nn = '1/0'", "line 2: vars.n: expected a divisor other than 0"),
    ("[[rule]]\nmatch = '*'", "line 1: expected a method, got none"),
    ("[[rule]]\nmatch = '*'\nmethod = 'gauss'", "line 3: method: expected a method, got 'gauss'"),
    ("[[rule]]\nmatch = '*'\nmethod = 3", "line 3: method: expected the name of a method, got 3"),
    ("[[rule]]\nmethod = 'ones'", "line 1: expected match, a pattern of names"),
    ("[[rule]]\nmatch = 3\nmethod = 'ones'", "line 2: match: expected text or a list of it, got 3"),
    ("[[rule]]\nmatch = []\nmethod = 'ones'", "line 2: match: expected text or a list of it"),
    ("[[rule]]\nmatch = ''\nmethod = 'ones'", "line 2: match: expected a pattern of 1 to"),
    ("[[rule]]\nmatch = '[a'\nmethod = 'ones'", "line 2: match: expected a ] after the [ of '[a'"),
    ("[[rule]]\nmatch = '[b-a]'\nmethod = 'ones'", "line 2: match: expected ascending ranges such as 0-9"),
    ("[default]\nmatch = '*'\nmethod = 'ones'", "line 2: default.match: expected no condition in the default rule"),
    (RULE + "sdt = 1", "line 4: sdt: expected a key among match"),
    (RULE + "gain = 1", "line 4: gain: normal does not take it; it takes mean, std"),
    (RULE + "std = 'std'", "line 4: std: expected names among shape"),
    (RULE + "std = '2 *'", "line 4: std: expected an expression such as"),
    (RULE + "std = true", "line 4: std: expected std to be a number, got True"),
    (RULE + "std = [1]", "line 4: std: expected std to be a number, got [1]"),
    (RULE + "std = inf", "line 4: std: expected a finite std"),
    (RULE + "in_axis = 1", "line 4: in_axis: normal does not use fans; remove this key"),
    (RULE + "std = 'fan_in'\nlayout = 'lin'", "line 5: layout: expected a layout among linear, transposed"),
    (RULE + "std = 'fan_in'\nlayout = 'linear'\nin_axis = 1", "expected axes or a layout, got both"),
    (RULE + "std = 'fan_in'\nin_axis = 1.5", "line 5: in_axis: expected in_axis to be an axis or several, got 1.5"),
    (RULE + "ndim = -1", "line 4: ndim: expected an integer >= 0"),
    (RULE + "ndim = [true]", "line 4: ndim: expected an integer >= 0"),
    (RULE + "dtype = 'fp32'", "line 4: dtype: expected dtypes among float64"),
    (RULE + "shape = 3", "line 4: shape: expected a list of sizes"),
    (RULE + "shape = ['shape[0]']", "line 4: shape: expected numbers and variables"),
    (RULE + "fans_of = '*.*.w'", "line 4: fans_of: expected at most 1 stars, as '*' has"),
    (RULE + "padding_idx = 'x'", "line 4: padding_idx: expected the number of a row, got 'x'"),
    ("[[rule]]\nmatch = '*'\nmethod = 'constant'", "line 1: constant needs val"),
    ("[[rule]]\nmatch = '*'\nmethod = 'kaiming_normal'\nmode = 'in'", "line 4: mode: expected mode among fan_in"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_an_error_names_the_file_the_line_and_the_key(text, message):
    with pytest.raises(bigin.InputError) as error:
        parse_recipe(text, "r.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("r.toml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('method = "xavier_normal"', "r.toml, line 1: h.1.ln.weight: xavier_normal: expected a shape of 2 or more"),
        ('method = "normal"\nstd = "fan_in"', "r.toml, line 4: std: h.1.ln.weight: expected a shape of 2 or more"),
        (
            'method = "normal"\nstd = "1 / (shape[0] - 8)"',
            "line 4: std: h.1.ln.weight: expected a divisor other than 0",
        ),
        ('method = "normal"\nstd = "-shape[0]"', "line 1: h.1.ln.weight: normal: expected std >= 0"),
        ('method = "dirac"\ngroups = "shape[0] / 3"', "expected groups to be an integer, got 2.66"),
    ],
)
def test_a_rule_that_does_not_go_together_with_a_tensor_names_both(rule, message):
    with pytest.raises(bigin.InputError) as error:
        assigned(f'[[rule]]\nmatch = "*ln*"\n{rule}', "h.1.ln.weight")
    assert message in str(error.value)


TOML_VALUES = st.recursive(
    st.sampled_from(
        ['"*"', '"ones"', '"normal"', "1", "-1", "0.5", "nan", "true", '"shape[0]"', '"1/0"', '"{}"', "1979-05-27"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]")
        | st.dictionaries(st.sampled_from(["axis", "parts", "sizes", "names", "x"]), inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=6,
)
TOML_KEYS = st.sampled_from(
    [
        *("match", "shape", "ndim", "dtype", "method", "layout", "in_axis", "fans_of", "split", "padding_idx"),
        *("std", "mean", "a", "val", "seed", "vars", "rule", "x"),
    ]
)
STATEMENTS = st.tuples(TOML_KEYS, TOML_VALUES).map(" = ".join) | st.sampled_from(
    [
        "[[rule]]",
        "[vars]",
        "[default]",
        'match = "*"',
        'method = "normal"',
        'method = "xavier_normal"',
        "[[rule]]\nmatch = '*'",
    ]
)


@given(st.lists(STATEMENTS, max_size=12).map("\n".join) | st.text(max_size=60))
def test_any_recipe_is_read_or_an_input_error(text):
    message = refusal(lambda: assign(parse_recipe(text, "r.toml"), MODEL))
    assert message == "" or message.startswith("r.toml")
    assert "\n" not in message


def test_truncated_bounds_in_standard_deviations():
    text = '[default]\nmethod = "trunc_normal"\nstd = "1 / sqrt(shape[0])"\nlower = -3\nupper = 3'
    assert the(assigned(text, "h.1.ln.weight")) == TruncNormal(
        0.0, 1 / math.sqrt(8), -3 / math.sqrt(8), 3 / math.sqrt(8)
    )


# What probably is wrong with a recipe for a model

FITS = """
architectures = "A, B"
[vars]
n_layers = 2
hidden_size = 8
[[rule]]
match = "*.o_proj.weight"
method = "ones"
[[rule]]
match = "*.bias"
method = "zeros"
optional = true
[[rule]]
match = "*"
method = "normal"
std = "1 / n_layers"
"""


def doubts_of(names: list[str], text: str = FITS, **variables: Any) -> list[str]:
    recipe = parse_recipe(text, "r.toml", variables)
    tensors = [Tensor(name, (8, 8), "float32") for name in names]
    return list(doubts(recipe, tensors, assign(recipe, tensors)))


def test_a_recipe_that_fits_leaves_no_doubt():
    assert doubts_of(["layers.0.o_proj.weight", "layers.1.o_proj.weight", "w"]) == []


@pytest.mark.parametrize(
    ("names", "variables", "message"),
    [
        (["0.c_proj.weight", "1.w"], {}, "rule 1 (*.o_proj.weight) matches no tensor; the recipe is for: A, B"),
        (["0.o_proj.weight", "w"], {}, "n_layers = 2, but the names of the tensors count 1 layer"),
        (["0.o_proj.weight", "3.w"], {"n_layers": 3}, "n_layers = 3, but the names of the tensors count 4 layers"),
        (["a.o_proj.weight", "w"], {"hidden_size": 64}, "hidden_size = 64, but no tensor has a dimension of that size"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(names, variables, message):
    (doubt,) = doubts_of(names, **variables)
    assert doubt.startswith("r.toml")
    assert message in doubt


def test_a_stage_of_a_pipeline_may_have_some_of_the_layers():
    assert doubts_of(["2.o_proj.weight", "3.w"], n_layers=8) == []


def test_a_rule_that_an_earlier_one_hides_is_told():
    text = '[[rule]]\nmatch = "*"\nmethod = "ones"\n[[rule]]\nmatch = "w"\nmethod = "zeros"\n'
    (doubt,) = doubts_of(["w"], text)
    assert "rule 2 (w) is used for no tensor: rule 1 (*, line 1) comes first and matches w" in doubt
    assert "the first rule that matches a tensor applies; move rule 2 up" in doubt
    (doubt,) = doubts_of(["w"], 'skip = "w"\n' + text.replace('"*"', '"v"\noptional = true'))
    assert "skip leaves out w" in doubt
    (doubt,) = doubts_of(["w"], text.replace('"w"', '"w"\nndim = 7'))
    assert "a condition of it (shape, ndim, dtype or fans_of) excludes w, " in doubt


def test_a_rule_that_fails_where_a_later_one_was_meant_says_so():
    text = '[[rule]]\nmatch = "*"\nmethod = "xavier_normal"\n[[rule]]\nmatch = "*bias"\nmethod = "zeros"\n'
    with pytest.raises(bigin.InputError) as refused:
        assign(parse_recipe(text, "r.toml"), [Tensor("a.bias", (4,), "float32")])
    assert str(refused.value).startswith("r.toml, line 1: a.bias: xavier_normal: expected a shape of 2 or more")
    assert str(refused.value).endswith(
        "; rule 2 (*bias, line 4) matches it too, but the first rule that matches a tensor applies: move that rule up"
    )


def test_an_unknown_variable_is_told_before_one_that_is_missing():
    text = '[vars]\nn_layers = "required"\n' + RULE
    with pytest.raises(bigin.InputError, match=r"got n_layer; did you mean n_layers\?"):
        parse_recipe(text, "r.toml", {"n_layer": 3})


def test_no_parameter_of_a_method_hides_a_key_of_a_rule():
    shared = set(recipe.AXES)  # which mean the same in both
    for method in table.METHODS.values():
        assert not (set(method.defaults) & set(read.RULE_KEYS)) - shared, method.name
