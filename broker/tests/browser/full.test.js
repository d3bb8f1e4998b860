// A browser's own EventSource against a node that is full: it is told to come back, does so by itself, and comes in once there is room.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, it } from "node:test";
import { chromium } from "playwright-core";
import { Broker } from "./broker.js";

const PATIENCE_MS = 60_000;

let pages;
let broker;
let browser;

before(async () => {
  // The page is another server's, so that no connection of the browser is there before its EventSource.
  pages = createServer((_, response) => response.end("<!doctype html>")).listen(0, "127.0.0.1");
  await once(pages, "listening");
  broker = await Broker.start(["limits.connections=1", `http.allowed_origins=["${origin()}"]`]);
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  await broker?.stop();
  pages?.close();
});

const origin = () => `http://127.0.0.1:${pages.address().port}`;

it("EventSource waits before a full node and comes in by itself", async () => {
  const url = `http://${broker.address}/v1/events?topic=full`;
  const holder = new AbortController();
  const held = await fetch(url, { signal: holder.signal });
  assert.equal(held.status, 200);

  const page = await browser.newPage();
  await page.goto(origin());
  await page.evaluate((url) => {
    window.told = [];
    window.source = new EventSource(url);
    window.source.addEventListener("goodbye", (event) => window.told.push(JSON.parse(event.data).goodbye.reason));
  }, url);
  await page.waitForFunction(() => window.told.length > 0, null, { timeout: PATIENCE_MS });
  await page.waitForFunction(() => window.source.readyState === EventSource.CONNECTING, null, { timeout: PATIENCE_MS });
  assert.deepEqual(await page.evaluate(() => window.told), ["overloaded"]);

  holder.abort();
  await page.waitForFunction(() => window.source.readyState === EventSource.OPEN, null, { timeout: PATIENCE_MS });
  assert.deepEqual(await page.evaluate(() => window.told), ["overloaded"], "told once, it waited");
  await page.evaluate(() => window.source.close());
  await page.close();
});
