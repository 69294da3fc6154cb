// Open docs/law/index.html in Chromium, type each tensor of a list into it, and print what it shows.
//     node browser.js CHROMIUM TENSORS.json SCREENSHOT.png
"use strict";

const fs = require("fs");
const path = require("path");
const { inPage } = require("../chromium.js");

const [program, tensors, screenshot] = process.argv.slice(2);

inPage(program, async (page) => {
  await page.goto("file://" + path.join(__dirname, "..", "..", "docs", "law", "index.html"));
  await page.waitForSelector('body[data-state="shown"]');
  const shown = [];
  for (const one of JSON.parse(fs.readFileSync(tensors, "utf8"))) {
    await page.selectOption("#method", one.method);
    await page.selectOption("#dtype", one.dtype);
    for (const key of ["shape", "seed", "name", "index", "key"]) await page.fill("#" + key, one[key]);
    for (const [key, value] of Object.entries(one.parameters)) {
      const list = await page.locator(`select#p-${key}`).count();
      if (list) await page.selectOption(`#p-${key}`, value);
      else await page.fill(`#p-${key}`, String(value));
    }
    shown.push({
      error: await page.textContent("#error"),
      rows: await page.$$eval("#values tr", (rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent))),
    });
  }
  await page.screenshot({ path: screenshot });
  return { shown };
});
