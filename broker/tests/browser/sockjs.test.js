// The unmodified sockjs-client over each of its transports: it connects, publishes and reads the native JSON, and after the broker was
// killed it opens a new session that goes on where the last one was.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, it } from "node:test";
import { chromium } from "playwright-core";
import { Broker } from "./broker.js";
import { chat } from "./sockjs-page.js";

const PATIENCE_MS = 60_000;
const CLIENT = createRequire(import.meta.url).resolve("sockjs-client/dist/sockjs.js");

let broker;
let browser;
let site;

before(async () => {
  // A site of its own: another port is another origin, which is what iframes and scripts are for.
  const client = await readFile(CLIENT);
  site = createServer((request, response) => {
    const isClient = request.url === "/sockjs.js";
    response.setHeader("content-type", isClient ? "text/javascript" : "text/html");
    response.end(isClient ? client : '<!doctype html><title>site</title><script src="/sockjs.js"></script>');
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  const { port } = site.address();
  const url = `http://127.0.0.1:${port}/sockjs.js`;
  broker = await Broker.start(['http.allowed_origins=["*"]', `sockjs.client_url=${url}`]);
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  await broker?.stop();
  site?.close();
});

const transports = [
  ["websocket", "site"],
  ["xhr-streaming", "site"],
  ["eventsource", "site"],
  ["iframe-eventsource", "site"],
  ["htmlfile", "broker"],
  ["iframe-htmlfile", "site"],
  ["xhr-polling", "site"],
  ["iframe-xhr-polling", "site"],
  ["jsonp-polling", "site"],
];

for (const [transport, host] of transports) {
  it(`sockjs-client over ${transport} reads on over a kill of the broker`, async () => {
    const page = await browser.newPage();
    if (host === "site") {
      await page.goto(`http://127.0.0.1:${site.address().port}/`);
    } else {
      // This one is for pages of the same origin alone.
      await page.goto(`http://${broker.address}/healthz`);
      await page.addScriptTag({ path: CLIENT });
    }
    const options = { timeout: PATIENCE_MS };
    await page.evaluate(chat, [`http://${broker.address}/sockjs`, transport, `sockjs/${transport}`]);
    await page.waitForFunction(() => window.state.ready, null, options);
    for (const n of [1, 2]) await page.evaluate((n) => window.state.publish(n), n);
    await page.waitForFunction(() => window.state.got.length >= 2, null, options);
    await broker.killAndRestart();
    // What is published before the page is back is what it would miss.
    const body = JSON.stringify({ topic: `sockjs/${transport}`, data: 3 });
    const answer = await fetch(`http://${broker.address}/v1/publish`, { method: "POST", body });
    assert.equal(answer.status, 200);
    // Browsers tell nobody that such a page ended early. The next message does, since it finds no session.
    if (transport.includes("htmlfile")) await page.evaluate(() => void window.state.publish("to nobody"));
    await page.waitForFunction(() => window.state.got.length >= 3 && window.state.ready, null, options);
    await page.evaluate(() => window.state.publish("한 😀"));
    await page.waitForFunction(() => window.state.got.length >= 4, null, options);
    const { got, opened, closed } = await page.evaluate(() => window.state);
    assert.deepEqual(got, [1, 2, 3, "한 😀"]);
    assert.ok(opened.length >= 2 && opened.every((name) => name === transport), `${opened}`);
    assert.ok(closed.length >= 1, "the page was told");
    await page.close();
  });
}
