// The unmodified sockjs-client behind a round-robin proxy without stickiness: each of its requests may come to another of three nodes. SJ-44.
//
//   cargo build --workspace --all-targets && BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, it } from "node:test";
import { chromium } from "playwright-core";
import { Cluster } from "./cluster.js";
import { chat } from "./sockjs-page.js";

const PATIENCE_MS = 60_000;
const require = createRequire(import.meta.url);
const CLIENT = require.resolve("sockjs-client/dist/sockjs.js");

let cluster;
let browser;
let site;

before(async () => {
  const client = await readFile(CLIENT);
  site = createServer((request, response) => {
    const isClient = request.url === "/sockjs.js";
    response.setHeader("content-type", isClient ? "text/javascript" : "text/html");
    response.end(isClient ? client : '<!doctype html><title>site</title><script src="/sockjs.js"></script>');
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${site.address().port}/sockjs.js`;
  cluster = await Cluster.start([
    'http.allowed_origins=["*"]',
    `sockjs.client_url=${url}`,
    "cluster.lease=3s",
    "drain.spread=1s",
  ]);
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  await cluster?.stop();
  site?.close();
});

/** A page in Chromium. */
async function inChromium(transport, host, topic) {
  const page = await browser.newPage();
  if (host === "site") {
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
  } else {
    // This one is for pages of the same origin alone.
    await page.goto(`http://${cluster.address}/healthz`);
    await page.addScriptTag({ path: CLIENT });
  }
  await page.evaluate(chat, [`http://${cluster.address}/sockjs`, transport, topic]);
  const plain = () => {
    const { got, opened, closed, node, ready } = window.state;
    return { got, opened, closed, node, ready };
  };
  return {
    state: () => page.evaluate(plain),
    publish: (data) => page.evaluate((data) => void window.state.publish(data), data),
    close: () => page.close(),
  };
}

/** The same in this process. */
async function inNode(transport, topic) {
  const SockJS = require("sockjs-client");
  globalThis.window = { SockJS };
  chat([`http://${cluster.address}/sockjs`, transport, topic]);
  const { state } = globalThis.window;
  return {
    state: async () => state,
    publish: async (data) => void state.publish(data),
    close: async () => {
      state.connect = () => {};
      state.socket.close();
    },
  };
}

async function until(client, isSo) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const state = await client.state();
    if (isSo(state)) return state;
    const { got, opened, closed, node, ready } = state;
    assert.ok(Date.now() < end, JSON.stringify({ got, opened, closed, node, ready }));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Publishes by HTTP, as often as it takes: a node that was killed a moment ago is not asked again for long. */
async function publish(topic, data) {
  const body = JSON.stringify({ topic, data });
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const headers = { connection: "close" };
    const answer = await fetch(`http://${cluster.address}/v1/publish`, { method: "POST", body, headers });
    if (answer.status === 200) return;
    assert.ok(Date.now() < end, `${answer.status}`);
  }
}

/** Reads, loses its node by `end`, and reads on. */
async function resumes(client, transport, topic, end) {
  const { node } = await until(client, ({ ready, node }) => ready && node);
  for (const n of [1, 2, 3, 4]) {
    await client.publish(n);
    await until(client, ({ got }) => got.length >= n);
  }
  await end(node);
  await publish(topic, 5);
  // Browsers tell nobody that such a page ended early. The next message does, since it finds no session.
  if (transport.includes("htmlfile")) await client.publish("to nobody");
  await until(client, ({ got, ready }) => got.length >= 5 && ready);
  await client.publish("한 😀");
  const { got, opened, closed } = await until(client, ({ got }) => got.length >= 6);
  assert.deepEqual(got, [1, 2, 3, 4, 5, "한 😀"], "nothing is missing or doubled");
  assert.ok(opened.length >= 2 && opened.every((name) => name === transport), `${opened}`);
  assert.ok(closed.length >= 1, "it was told");
  await client.close();
  await cluster.startAgain(node);
  return closed;
}

const inBrowsers = [
  ["websocket", "site"],
  ["xhr-streaming", "site"],
  ["eventsource", "site"],
  ["iframe-eventsource", "site"],
  ["htmlfile", "proxy"],
  ["iframe-htmlfile", "site"],
  ["xhr-polling", "site"],
  ["iframe-xhr-polling", "site"],
  ["jsonp-polling", "site"],
];

for (const [transport, host] of inBrowsers) {
  it(`sockjs-client in Chromium over ${transport} through any node resumes when its node is killed`, async () => {
    const topic = `killed/${transport}`;
    await resumes(await inChromium(transport, host, topic), transport, topic, (node) => cluster.kill(node));
  });
}

for (const transport of ["websocket", "xhr-streaming", "eventsource", "xhr-polling"]) {
  it(`sockjs-client in Node.js over ${transport} through any node resumes when its node drains`, async () => {
    const topic = `drained/${transport}`;
    const client = await inNode(transport, topic);
    const closed = await resumes(client, transport, topic, (node) => cluster.terminate(node));
    // A poll that comes when the node has ended already hears of the end alone.
    const codes = transport === "xhr-polling" ? [1012, 1002] : [1012];
    assert.ok(codes.includes(closed[0][0]), `${closed}`);
  });
}
