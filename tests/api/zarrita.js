// Open zarrita.html in Chromium, and print what it reads of a server.
//     node zarrita.js CHROMIUM PAGE SERVER WANTED
"use strict";

const { inPage } = require("../chromium.js");

const [program, address, server, wanted] = process.argv.slice(2);

inPage(program, async (page) => {
  await page.goto(address);
  await page.waitForSelector('body[data-state="ready"]', { timeout: 30000, state: "attached" });
  return page.evaluate(
    ([url, list]) => window.read(url, list).catch((error) => ({ refused: String(error) })),
    [server, JSON.parse(wanted)],
  );
});
