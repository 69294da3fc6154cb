// The page beside it: what is typed, the values, and the code that gives the same. In node, `code` alone.
"use strict";

(function (root) {
  const law = typeof require === "function" ? require("./law.js") : root.law;

  // What is asked of each method: name, default (null: none), choices
  const NONLINEARITIES = "linear sigmoid tanh relu leaky_relu selu".split(" ");
  const FIELDS = {
    uniform: [["a", 0], ["b", 1]],
    normal: [["mean", 0], ["std", 1]],
    trunc_normal: [["mean", 0], ["std", 1], ["a", -2], ["b", 2]],
    constant: [["val", 0.5]],
    xavier_uniform: [["gain", 1]],
    xavier_normal: [["gain", 1]],
    kaiming_uniform: [["a", 0], ["mode", "fan_in", ["fan_in", "fan_out"]], ["nonlinearity", "leaky_relu", NONLINEARITIES]],
    kaiming_normal: [["a", 0], ["mode", "fan_in", ["fan_in", "fan_out"]], ["nonlinearity", "leaky_relu", NONLINEARITIES]],
    variance_scaling: [
      ["scale", 1],
      ["mode", "fan_in", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]],
      ["distribution", "truncated_normal", ["uniform", "normal", "truncated_normal"]],
    ],
    lecun_uniform: [],
    lecun_normal: [],
  };
  const SHOWN = 8;

  // A number of a dtype in as few digits as tell it from its neighbours
  function text(x, dtype) {
    if (dtype === "float64") return String(x);
    for (let digits = 1; digits < 10; digits++) {
      const short = Number(x.toPrecision(digits));
      if (law.round(Math.fround(short), dtype) === x) return String(short);
    }
    return String(x);
  }

  // The index along each axis of a flat index
  function unravel(e, shape) {
    const index = [];
    for (const size of [...shape].reverse()) {
      index.unshift(e % size);
      e /= size;
    }
    return index;
  }

  // The key of a row in code: a number with what a language puts behind it, or a text in quotes
  const keyOf = (row, suffix = "") => (typeof row === "string" ? JSON.stringify(row) : `${BigInt.asUintN(64, row)}${suffix}`);

  function python(s) {
    const value = (x) => (typeof x === "string" ? `"${x}"` : String(x).replace("Infinity", 'float("inf")'));
    const parameters = Object.entries(s.parameters).map(([key, x]) => `, ${key}=${value(x)}`);
    if (s.row !== undefined)
      return `import bigin

t = bigin.KeyedTable(
    ${s.shape[1]}, "${s.method}"${parameters.join("")},
    dtype="${s.dtype}", seed=${s.seed}, name=${JSON.stringify(s.name)},
)
row = t[${keyOf(s.row)}]
for column in range(${s.first}, ${s.first + BigInt(s.count)}):
    print(column, float(row[column]))
`;
    const shape = `(${s.shape.join(", ")}${s.shape.length === 1 ? "," : ""})`;
    return `import bigin
import numpy as np

w = bigin.virtual(
    ${shape}, "${s.method}"${parameters.join("")},
    dtype="${s.dtype}", seed=${s.seed}, name=${JSON.stringify(s.name)},
)
for e in range(${s.first}, ${s.first + BigInt(s.count)}):
    print(e, float(w[np.unravel_index(e, w.shape)]))
`;
  }

  function javascript(s) {
    const parameters = Object.entries(s.parameters).map(([key, x]) => `${key}: ${typeof x === "string" ? `"${x}"` : x}`);
    return `const law = require("./law.js"); // in a page: <script src="law.js"></script>

const w = law.tensor({
  method: "${s.method}", parameters: { ${parameters.join(", ")} },
  shape: [${s.shape.map((n) => n + "n").join(", ")}], dtype: "${s.dtype}", seed: ${s.seed}n, name: ${JSON.stringify(s.name)},${s.row === undefined ? "" : `
  row: ${keyOf(s.row, "n")},`}
});
for (let e = ${s.first}n; e < ${s.first + BigInt(s.count)}n; e++) console.log(String(e), w.at(e));
`;
  }

  // A number as a hexadecimal float of C
  function hexadecimal(x, suffix) {
    if (x === 0) return Object.is(x, -0) ? `-0.0${suffix}` : `0.0${suffix}`;
    const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), -1022);
    let [m, e] = [Math.abs(x) / 2 ** exponent, exponent];
    if (m >= 2) [m, e] = [m / 2, e + 1];
    if (m < 1 && e > -1022) [m, e] = [m * 2, e - 1];
    const fraction = BigInt((m - Math.floor(m)) * 2 ** 52).toString(16).padStart(13, "0").replace(/0+$/, "");
    return `${x < 0 ? "-" : ""}0x${Math.floor(m)}${fraction ? "." + fraction : ""}p${e < 0 ? e : "+" + e}${suffix}`;
  }

  // A tensor's value as an expression of e, seed and stream, and the lines that it needs before it
  function expression(w) {
    const wide = w.dtype === "float64";
    const [prefix, suffix] = wide ? ["f64", ""] : ["f32", "f"];
    const number = (x) => hexadecimal(x, suffix);
    const n = w.numbers;
    let before = "";
    let value;
    if (n.width !== undefined) {
      const numbers = [n.low, n.width, n.first, n.last].map(number);
      value = `${prefix}_uniform(e, seed, stream, ${numbers.join(", ")})`;
    } else if (n.anchor !== undefined) {
      const fields = Object.entries(n).map(([key, x]) => `        .${key} = ${key === "anchor" ? x : number(x)},\n`);
      before = `    const ${prefix}_truncated numbers = {\n${fields.join("")}    };\n`;
      value = `${prefix}_trunc_normal(e, seed, stream, &numbers)`;
    } else if (n.std !== undefined) value = `${prefix}_normal(e, seed, stream, ${number(n.mean)}, ${number(n.std)})`;
    else value = number(wide ? w.given.value : Math.fround(w.given.value));
    if (!wide && w.dtype !== "float32") {
      const { digits, lowest } = law.FORMATS[w.dtype];
      value = `law_round(${value}, ${digits}, ${lowest})`;
    }
    return { type: wide ? "double" : "float", before, value };
  }

  // A name in C's quotes: every byte that is no plain letter in octal
  function quoted(name) {
    const plain = (byte) => byte >= 32 && byte < 127 && !'"\\?'.includes(String.fromCharCode(byte));
    const octal = (byte) => "\\" + byte.toString(8).padStart(3, "0");
    const bytes = [...new TextEncoder().encode(name)];
    return `"${bytes.map((byte) => (plain(byte) ? String.fromCharCode(byte) : octal(byte))).join("")}"`;
  }

  function c(s, w) {
    const { type, before, value } = expression(w);
    let [key, stream] = [`UINT64_C(${s.seed})`, `law_stream_id(${quoted(s.name)}, "")`];
    if (s.row !== undefined) {
      key = `law_table_key(UINT64_C(${s.seed}), ${quoted(s.name)})`;
      stream = typeof s.row === "string" ? `law_text_key(${quoted(s.row)})` : `UINT64_C(${keyOf(s.row)})`;
    }
    return `// gcc -std=c17 -O2 -ffp-contract=off values.c -lm
#include <inttypes.h>
#include <stdio.h>
#include "law.h"

int main(void) {
    const uint64_t seed = ${key};
    const uint64_t stream = ${stream};
${before}    for (uint64_t e = UINT64_C(${s.first}); e < UINT64_C(${s.first + BigInt(s.count)}); e++) {
        const ${type} value = ${value};
        printf("%" PRIu64 " %.${type === "double" ? 17 : 9}g\\n", e, value);
    }
    (void)seed, (void)stream;
}
`;
  }

  const code = { python, c, javascript };

  if (typeof module === "object" && module.exports) {
    module.exports = { code, expression, quoted };
    return;
  }

  // --- The page ------------------------------------------------------------------------------------------------------

  const get = (id) => document.getElementById(id);
  const make = (tag, content, attributes = {}) => {
    const node = document.createElement(tag);
    node.textContent = content;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  let tab = "python";

  function whole(value, what) {
    const plain = value.trim().replace(/[_,]/g, "");
    if (!/^\d+$/.test(plain)) throw new RangeError(`${what} is a whole number, not "${value}"`);
    return BigInt(plain);
  }

  function numeral(value, what) {
    const plain = value.trim();
    const x = /^[+-]?inf(inity)?$/i.test(plain) ? (plain[0] === "-" ? -Infinity : Infinity) : Number(plain);
    if (plain === "" || Number.isNaN(x)) throw new RangeError(`${what} is a number, not "${value}"`);
    return x;
  }

  function sizes(value, what) {
    const list = value.split(/[\s,x()[\]]+/).filter((part) => part !== "");
    return list.map((part) => whole(part, what));
  }

  // The key of a row: a number, or a text, in quotes where it is made of digits; undefined where there is none
  function rowKey(value) {
    const plain = value.trim();
    if (plain === "") return undefined;
    if (!/^[+-]?\d[\d_]*$/.test(plain)) return plain.replace(/^"(.*)"$/, "$1");
    const key = BigInt(plain.replace(/[_+]/g, ""));
    if (key < -(2n ** 63n) || key >= 2n ** 64n) throw new RangeError(`the key of a row is -2^63 ... 2^64 - 1, not ${key}`);
    return key;
  }

  function settings() {
    const row = rowKey(get("key").value);
    let shape = sizes(get("shape").value, "a size of the shape");
    if (row !== undefined) {
      if (shape.length === 0) throw new RangeError("a keyed table has columns; their number is the last of the shape");
      shape = [1n, shape[shape.length - 1]];
    }
    const method = get("method").value;
    const parameters = {};
    for (const [key, , choices] of FIELDS[method]) {
      const { value } = get("p-" + key);
      parameters[key] = choices ? value : numeral(value, key);
    }
    let index = sizes(get("index").value, "an index");
    if (row !== undefined) index = [0n, index[index.length - 1] ?? 0n];
    let first;
    if (index.length === shape.length) {
      index.forEach((i, axis) => {
        if (i >= shape[axis]) throw new RangeError(`the index along axis ${axis} is below ${shape[axis]}, not ${i}`);
      });
      first = index.reduce((flat, i, axis) => flat * shape[axis] + i, 0n);
    } else if (index.length === 1) first = index[0];
    else throw new RangeError(`the index has ${shape.length} numbers, one an axis, or is one flat index`);
    const total = shape.reduce((product, size) => product * size, 1n);
    if (first >= total) throw new RangeError(`the tensor has ${total} elements; the flat index is below that`);
    const count = Number(total - first < BigInt(SHOWN) ? total - first : BigInt(SHOWN));
    const seed = whole(get("seed").value, "the seed");
    return { method, parameters, shape, dtype: get("dtype").value, seed, name: get("name").value, first, count, row };
  }

  function show() {
    const rows = get("values");
    try {
      const s = settings();
      const w = law.tensor(s);
      const list = [];
      for (let e = s.first; e < s.first + BigInt(s.count); e++) {
        const row = make("tr", "");
        const value = w.at(e);
        const index = s.row === undefined ? unravel(e, s.shape) : [keyOf(s.row), e];
        row.append(make("td", `[${index.join(", ")}]`), make("td", String(e)));
        row.append(make("td", text(value, s.dtype), { class: "value" }), make("td", w.bits(e), { class: "bits" }));
        list.push(row);
      }
      rows.replaceChildren(...list);
      get("error").textContent = "";
      get("about").textContent = `${s.row === undefined ? "stream" : "key of the row"} 0x${w.stream.toString(16)}, ${describe(w)}`;
      for (const [language, write] of Object.entries(code)) get("code-" + language).textContent = write(s, w);
      document.body.dataset.state = "shown";
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      rows.replaceChildren();
      get("about").textContent = "";
      get("error").textContent = error.message;
      for (const language of Object.keys(code)) get("code-" + language).textContent = "";
      document.body.dataset.state = "refused";
    }
  }

  function describe({ distribution, given, dtype }) {
    const g = Object.fromEntries(Object.entries(given).map(([key, x]) => [key, text(Math.fround(x), dtype === "float64" ? dtype : "float32")]));
    if (distribution === "uniform") return `uniform on [${g.low}, ${g.high})`;
    if (distribution === "normal") return `normal, mean ${g.mean}, std ${g.std}`;
    if (distribution === "trunc_normal") return `normal, mean ${g.mean}, std ${g.std}, truncated to [${g.a}, ${g.b}]`;
    return `constant ${g.value}`;
  }

  function fields() {
    const box = get("parameters");
    const list = FIELDS[get("method").value].map(([key, value, choices]) => {
      const label = make("label", key);
      const input = make(choices ? "select" : "input", "", { id: "p-" + key, autocomplete: "off" });
      if (choices) choices.forEach((choice) => input.append(make("option", choice)));
      input.value = value;
      label.append(input);
      return label;
    });
    box.replaceChildren(...list);
  }

  function choose(language) {
    tab = language;
    for (const other of Object.keys(code)) {
      get("code-" + other).hidden = other !== tab;
      get("tab-" + other).setAttribute("aria-selected", String(other === tab));
    }
  }

  Object.keys(FIELDS).forEach((method) => get("method").append(make("option", method)));
  Object.keys(law.FORMATS).forEach((dtype) => get("dtype").append(make("option", dtype)));
  get("method").value = "normal";
  get("dtype").value = "float32";
  get("method").addEventListener("input", fields);
  for (const language of Object.keys(code)) get("tab-" + language).addEventListener("click", () => choose(language));
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  document.querySelector("form").addEventListener("input", show);
  get("copy").addEventListener("click", () => navigator.clipboard.writeText(get("code-" + tab).textContent));
  fields();
  choose(tab);
  show();
})(typeof globalThis === "object" ? globalThis : this);
