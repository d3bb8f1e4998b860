// Two windows of the page talk to each other, and nothing is lost or shown twice, whatever happens to the network.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test
//
// CHROMIUM names the browser (default: /usr/bin/chromium). A failure leaves a picture of each window below target/browser.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Broker } from "./broker.js";
import { Proxy } from "./proxy.js";

const PICTURES = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "target", "browser");
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let broker;
let browser;
let proxy;
let contexts;
let windows;
/** What the pages' consoles complained about. */
let complaints;

before(async () => {
  broker = await Broker.start();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(async () => {
  await browser?.close();
  await broker?.stop();
});

beforeEach(async () => {
  proxy = await Proxy.start(broker.address);
  contexts = [];
  windows = [];
  complaints = [];
});

afterEach(async (test) => {
  if (test.passed === false) {
    for (const complaint of complaints) console.error(complaint);
    await mkdir(PICTURES, { recursive: true });
    for (const [i, page] of windows.entries()) {
      await page.screenshot({ path: join(PICTURES, `${test.name.replaceAll(/\W+/g, "-")}-${i + 1}.png`) });
    }
  }
  for (const context of contexts) await context.close();
  await proxy.stop();
});

/** Opens a window in a browser profile of its own. `through` is an address. */
async function open(topic, name, through = broker.address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
  contexts.push(context);
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  windows.push(page);
  page.on("pageerror", (error) => complaints.push(`${name}: ${error}`));
  page.on("console", (line) => {
    const text = line.text();
    // A connection that cannot be made is logged by the browser itself, and is what some of these tests are about.
    if (line.type() === "error" && !/WebSocket connection|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION/.test(text)) {
      complaints.push(`${name}: ${text}`);
    }
  });
  await page.goto(`http://${through}/#${new URLSearchParams({ topic, name, from: "earliest" })}`);
  await isOpen(page);
  return page;
}

const isOpen = (page) => page.locator('#state[data-state="open"]').waitFor();
const isDown = (page) => page.locator('#state:not([data-state="open"])').waitFor();

async function say(page, text) {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.getByRole("button", { name: "Publish" }).click();
}

/** Waits until the window has shown as many messages, then returns their texts. */
async function texts(page, count) {
  await page.locator(".message").nth(count - 1).waitFor();
  return await page.locator(".message .body").allTextContents();
}

const offsets = (page) => page.locator(".message .meta .offset:nth-of-type(2)").allTextContents();
const count = async (page, name) => Number(await page.locator(`#${name}`).textContent());

/** Nothing came twice, nothing is missing, and the page has nothing to complain about. */
async function isClean(...pages) {
  for (const page of pages) {
    const seen = {};
    for (const name of ["duplicates", "missing", "lost", "resets"]) seen[name] = await count(page, name);
    assert.deepEqual(seen, { duplicates: 0, missing: 0, lost: 0, resets: 0 });
  }
  assert.deepEqual(complaints, []);
}

const numbers = (n) => Array.from({ length: n }, (_, i) => `message ${i + 1}`);

describe("the page", { timeout: 120_000 }, () => {
  it("lets two windows chat and shows offsets, names and who is present", async () => {
    const kim = await open("chat/two", "Kim");
    const lee = await open("chat/two", "Lee");
    await kim.locator(".present li", { hasText: "Lee" }).waitFor();
    await lee.locator(".present li", { hasText: "Lee (you)" }).waitFor();
    await say(kim, "is the fire lit?");
    await texts(lee, 1);
    await say(lee, "it burns on every hill");
    for (const page of [kim, lee]) {
      assert.deepEqual(await texts(page, 2), ["is the fire lit?", "it burns on every hill"]);
      assert.deepEqual(await page.locator(".message .author").allTextContents(), ["Kim", "Lee"]);
      assert.deepEqual(await offsets(page), ["#1", "#2"]);
    }
    assert.deepEqual(await lee.locator(".message.own .body").allTextContents(), ["it burns on every hill"]);
    await lee.close();
    await kim.locator(".present li", { hasText: "Lee" }).waitFor({ state: "detached" });
    await isClean(kim);
  });

  it("shows what is in a message as text, never as markup", async () => {
    const page = await open("chat/markup", "<b>Kim</b>");
    const text = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
    await say(page, text);
    assert.deepEqual(await texts(page, 1), [text]);
    assert.equal(await page.locator(".log img, .log script, .log b").count(), 0);
    assert.equal(await page.title(), "chat/markup · Bongsu");
    await isClean(page);
  });

  it("resumes after its network was cut, with nothing lost or shown twice", async () => {
    const near = await open("chat/cut", "Kim");
    const far = await open("chat/cut", "Lee", proxy.address);
    await say(near, "message 1");
    await texts(far, 1);
    proxy.cut();
    await isDown(far);
    await say(near, "message 2");
    await say(near, "message 3");
    await texts(near, 3);
    // Waits in the page, and is sent when there is a network again.
    await say(far, "message 4");
    await far.locator("#pending li", { hasText: "message 4" }).waitFor();
    proxy.mend();
    await isOpen(far);
    assert.deepEqual((await texts(far, 4)).sort(), numbers(4));
    assert.deepEqual((await texts(near, 4)).sort(), numbers(4));
    assert.deepEqual(await offsets(far), ["#1", "#2", "#3", "#4"]);
    assert.equal(await far.locator("#pending li").count(), 0);
    await isClean(near, far);
  });

  it("resumes after its own button has cut the network", async () => {
    const near = await open("chat/button", "Kim");
    const far = await open("chat/button", "Lee");
    await say(near, "message 1");
    await texts(far, 1);
    await far.getByRole("button", { name: "Cut the network" }).click();
    await isDown(far);
    await say(near, "message 2");
    await texts(near, 2);
    await far.getByRole("button", { name: "Mend the network" }).click();
    assert.deepEqual(await texts(far, 2), numbers(2));
    await far.locator(".note", { hasText: /Connected again as .*, reading on after offset 1/ }).waitFor();
    await isClean(near, far);
  });

  it("resumes after the browser was offline", async () => {
    const near = await open("chat/offline", "Kim");
    const far = await open("chat/offline", "Lee", proxy.address);
    await say(near, "message 1");
    await texts(far, 1);
    await contexts[1].setOffline(true);
    proxy.cut();
    await isDown(far);
    await say(near, "message 2");
    await texts(near, 2);
    proxy.mend();
    await contexts[1].setOffline(false);
    assert.deepEqual(await texts(far, 2), numbers(2));
    await isClean(near, far);
  });

  it("resumes after the broker was killed and started again", async () => {
    const kim = await open("chat/kill", "Kim");
    const lee = await open("chat/kill", "Lee");
    for (const [i, text] of numbers(5).entries()) {
      await say(i % 2 === 0 ? kim : lee, text);
      await texts(kim, i + 1);
    }
    await texts(lee, 5);
    await broker.killAndRestart();
    await isOpen(kim);
    await isOpen(lee);
    await say(kim, "message 6");
    for (const page of [kim, lee]) {
      assert.deepEqual(await texts(page, 6), numbers(6));
      assert.deepEqual(await offsets(page), ["#1", "#2", "#3", "#4", "#5", "#6"]);
    }
    await isClean(kim, lee);
  });

  it("reads a pattern, and keeps topic and name in its address", async () => {
    const page = await open("rooms/#", "Kim");
    await page.getByLabel("To topic").fill("rooms/one");
    await say(page, "in one");
    await texts(page, 1);
    await page.getByLabel("To topic").fill("rooms/two");
    await say(page, "in two");
    assert.deepEqual((await texts(page, 2)).sort(), ["in one", "in two"]);
    await page.getByLabel("Topic or pattern").fill("rooms/two");
    await page.getByRole("button", { name: "Subscribe" }).click();
    assert.deepEqual(await texts(page, 1), ["in two"]);
    const hash = new URLSearchParams(new URL(page.url()).hash.slice(1));
    assert.deepEqual([hash.get("topic"), hash.get("name")], ["rooms/two", "Kim"]);
    await page.reload();
    assert.deepEqual(await texts(page, 1), ["in two"]);
    await isClean(page);
  });

  it("fits on a phone, in the dark, and every control has a name", async () => {
    const page = await open("chat/phone", "Kim", broker.address, {
      viewport: { width: 375, height: 740 },
      colorScheme: "dark",
    });
    const { scroll, client } = await page.evaluate(() => ({
      scroll: document.documentElement.scrollWidth,
      client: document.documentElement.clientWidth,
    }));
    assert.ok(scroll <= client, `${scroll} pixels wide in a window of ${client}`);
    const nameless = await page.locator("input, select, button").evaluateAll((controls) =>
      controls.filter((one) => !one.labels?.length && !one.textContent.trim()).map(({ id }) => id),
    );
    assert.deepEqual(nameless, []);
    await isClean(page);
  });
});
