// A browser's own EventSource reads on after the broker was killed, without a gap and without anything twice.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { chromium } from "playwright-core";
import { Broker } from "./broker.js";

const PATIENCE_MS = 60_000;

let broker;
let browser;

before(async () => {
  broker = await Broker.start();
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  await broker?.stop();
});

async function publish(topic, data) {
  const body = JSON.stringify({ topic, data });
  const answer = await fetch(`http://${broker.address}/v1/publish`, { method: "POST", body });
  assert.equal(answer.status, 200);
}

for (const [name, query, path] of [
  ["one topic", "topic=sse/one", (data) => data],
  ["a filter", "topic=sse/%2B&topic=elsewhere", (data) => data.delivery.data],
]) {
  it(`EventSource reads ${name} over a kill of the broker`, async () => {
    const page = await browser.newPage();
    await page.goto(`http://${broker.address}/healthz`);
    await page.evaluate((query) => {
      window.got = [];
      window.source = new EventSource(`/v1/events?${query}`);
      window.source.onmessage = (event) => window.got.push(JSON.parse(event.data));
    }, query);
    await page.waitForFunction(() => window.source.readyState === EventSource.OPEN, null, { timeout: PATIENCE_MS });
    await publish("sse/one", 0);
    await page.waitForFunction(() => window.got.length > 0, null, { timeout: PATIENCE_MS });
    await broker.killAndRestart();
    // What is published before the page is back is what it would miss.
    for (const n of [1, 2, 3]) await publish("sse/one", n);
    await page.waitForFunction(() => window.got.length >= 4, null, { timeout: PATIENCE_MS });
    await publish("sse/one", 4);
    await page.waitForFunction(() => window.got.length >= 5, null, { timeout: PATIENCE_MS });
    const got = await page.evaluate(() => window.got);
    assert.deepEqual(got.map(path), [0, 1, 2, 3, 4]);
    await page.evaluate(() => window.source.close());
    await page.close();
  });
}
