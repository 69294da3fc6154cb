// Run a function of a page of Chromium, which playwright-core drives, and print as JSON what it returns.
"use strict";

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require("playwright-core");

const FLAGS = `--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
  --disable-component-update --disable-sync`.split(/\s+/);

exports.inPage = async (program, look) => {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "chromium-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: program, headless: true, args: FLAGS, viewport: { width: 1100, height: 900 },
  });
  const errors = [];
  try {
    const page = await browser.newPage();
    page.on("pageerror", (error) => errors.push(error.stack || String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    console.log(JSON.stringify({ ...(await look(page)), errors }));
  } catch (error) {
    console.error(errors);
    throw error;
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true });
  }
};
