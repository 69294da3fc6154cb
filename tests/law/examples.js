// What test_examples_of_the_law.py asks of docs/law: `golden FILE`, `fma CASES`, `c FILE` or `code`.
"use strict";

const fs = require("fs");
const path = require("path");
const docs = path.join(__dirname, "..", "..", "docs", "law");
const law = require(path.join(docs, "law.js"));
const page = require(path.join(docs, "page.js"));

// The golden cases that law.js has. Integers past 2^53 are read as text.
function golden(file) {
  const text = fs.readFileSync(file, "utf8").replace(/("(?:shape|seed)": )(\[[^\]]*\]|\d+)/g, (_, key, value) =>
    key + value.replace(/\d+/g, '"$&"'));
  return JSON.parse(text).filter((one) => law.METHODS[one.method]);
}

function* elements(runs) {
  for (const [start, bits] of Object.entries(runs))
    for (const [i, word] of bits.split(" ").entries()) yield [BigInt(start) + BigInt(i), word];
}

const commands = {
  // The values that differ, and how many were compared
  golden(file) {
    const [differ, compared] = [[], []];
    for (const one of golden(file)) {
      const w = law.tensor(one);
      for (const [e, word] of elements(one.runs)) {
        compared.push(word);
        if (w.bits(e) !== word) differ.push([one.method, one.parameters, one.dtype, String(e), word, w.bits(e)]);
      }
    }
    return JSON.stringify({ compared: compared.length, differ });
  },

  // The same of the rows of keyed tables, of which long ones are shown by both ends
  keyed(file) {
    const [differ, compared] = [[], []];
    for (const one of golden(file))
      for (const [text, bits] of Object.entries(one.rows)) {
        const row = text.startsWith("text ") ? text.slice(5) : BigInt(text);
        const w = law.tensor({ ...one, shape: [1, one.dim], row });
        for (const [i, word] of bits.split(" ").entries()) {
          const column = one.dim > 100 && i > 3 ? one.dim - 9 + i : i;
          compared.push(word);
          if (w.bits(column) !== word) differ.push([one.method, one.dtype, text, column, word, w.bits(column)]);
        }
      }
    return JSON.stringify({ compared: compared.length, differ });
  },

  fma: (cases) => JSON.stringify(JSON.parse(cases).map(([a, b, c]) => law.fma32(a, b, c))),

  // A C program that prints every golden value as a hexadecimal float
  c(file) {
    const cases = golden(file);
    const functions = cases.map((one, i) => {
      const { type, before, value } = page.expression(law.tensor(one));
      return `static ${type} value${i}(uint64_t e, uint64_t seed, uint64_t stream) {\n${before}    return ${value};\n}`;
    });
    const calls = cases.map((one, i) => {
      const stream = `const uint64_t seed = UINT64_C(${one.seed}), stream = law_stream_id(${page.quoted(one.name)}, "");`;
      const prints = [...elements(one.runs)].map(([e]) => `printf("%a\\n", value${i}(UINT64_C(${e}), seed, stream));`);
      return `    { ${stream}\n${prints.join("\n")} }`;
    });
    return `#include <stdio.h>\n#include "law.h"\n${functions.join("\n")}\nint main(void) {\n${calls.join("\n")}\n}\n`;
  },

  // What the page shows of a few tensors: the code, and the flat index and bits that it must print
  code() {
    const shown = [
      { method: "normal", parameters: { mean: 0, std: 0.02 }, shape: [50000, 768], name: 'été "1"\\?' },
      { method: "trunc_normal", parameters: { a: 0.5, b: Infinity }, shape: [2 ** 40, 4], dtype: "bfloat16", first: 2n ** 41n },
      { method: "trunc_normal", parameters: {}, shape: [9], dtype: "float64", seed: 2n ** 64n - 1n, first: 3n },
      { method: "kaiming_uniform", parameters: { mode: "fan_out", nonlinearity: "relu" }, shape: [6, 1, 5, 5] },
      { method: "constant", parameters: { val: -0.3 }, shape: [8], dtype: "float8_e4m3fn" },
      { method: "normal", parameters: { std: 0.5 }, shape: [1, 9], name: "users", row: -2n, first: 2n },
      { method: "uniform", parameters: {}, shape: [1, 64], dtype: "bfloat16", seed: 3n, name: "é", row: 'user:"1"' },
    ];
    return JSON.stringify(
      shown.map((one) => {
        const s = { dtype: "float32", seed: 0n, name: "", first: 0n, count: 5, ...one, shape: one.shape.map(BigInt) };
        const w = law.tensor(s);
        const values = Array.from({ length: s.count }, (_, i) => [Number(s.first) + i, w.at(s.first + BigInt(i))]);
        const { dtype } = s;
        return { dtype, values, python: page.code.python(s, w), c: page.code.c(s, w), javascript: page.code.javascript(s, w) };
      }),
    );
  },
};

console.log(commands[process.argv[2]](...process.argv.slice(3)));
