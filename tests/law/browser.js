// Open docs/law/index.html in Chromium, type each tensor of a list into it, and print what it shows.
//     node browser.js CHROMIUM TENSORS.json SCREENSHOT.png
"use strict";

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require("playwright-core");

const FLAGS = `--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
  --disable-component-update --disable-sync`.split(/\s+/);

async function main(program, tensors, screenshot) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "law-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: program, headless: true, args: FLAGS, viewport: { width: 1100, height: 900 },
  });
  try {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.stack));
    await page.goto("file://" + path.join(__dirname, "..", "..", "docs", "law", "index.html"));
    await page.waitForSelector('body[data-state="shown"]');
    const shown = [];
    for (const one of JSON.parse(fs.readFileSync(tensors, "utf8"))) {
      await page.selectOption("#method", one.method);
      await page.selectOption("#dtype", one.dtype);
      for (const key of ["shape", "seed", "name", "index"]) await page.fill("#" + key, one[key]);
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
    console.log(JSON.stringify({ shown, errors }));
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true });
  }
}

main(...process.argv.slice(2));
