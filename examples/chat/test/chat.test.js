// Three windows, each with another way to the broker, are one chat room: nothing is lost or shown twice, and who is here is right.
//
//   BONGSU_BIN=../../target/debug/bongsu npm test
//
// CHROMIUM names the browser (default: /usr/bin/chromium). Pictures are left below target/browser.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Chat } from "./chat.js";

const PICTURES = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "target", "browser");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const WAYS = ["native", "stomp", "eventsource"];
const NAMES = { native: "Kim", stomp: "Lee", eventsource: "Park" };
/** Longer than any page waits before it connects again. */
const PATIENCE_MS = 45_000;

let chat;
let browser;
let contexts;
let windows;
/** What the pages' consoles complained about. */
let complaints;

before(async () => {
  chat = await Chat.start();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(async () => {
  await browser?.close();
  await chat?.stop();
});

beforeEach(() => {
  contexts = [];
  windows = [];
  complaints = [];
});

afterEach(async (test) => {
  if (test.passed === false) {
    for (const complaint of complaints) console.error(complaint);
    for (const [i, page] of windows.entries()) await picture(page, `${test.name.replaceAll(/\W+/g, "-")}-${i + 1}`);
  }
  for (const context of contexts) await context.close();
});

/** Opens a window in a browser profile of its own. */
async function openWindow(options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 640 }, ...options });
  contexts.push(context);
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  windows.push(page);
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  page.on("console", (line) => {
    const text = line.text();
    // A connection that cannot be made is logged by the browser itself, and is what some of these tests are about.
    if (line.type() === "error" && !/ERR_CONNECTION|ERR_INCOMPLETE|WebSocket connection/.test(text)) complaints.push(`${page.url()}: ${text}`);
  });
  return page;
}

async function enter(way, room, name = NAMES[way], options = {}) {
  const page = await openWindow(options);
  await page.goto(`http://${chat.pages}/${way}.html?${new URLSearchParams({ room, name })}`);
  await isOpen(page);
  return page;
}

async function enterAll(room) {
  return Object.fromEntries(await Promise.all(WAYS.map(async (way) => [way, await enter(way, room)])));
}

const isOpen = (page) => page.locator('#state[data-state="open"]').waitFor();
const isDown = (page) => page.locator('#state:not([data-state="open"])').waitFor();

async function say(page, text) {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

/** Waits until the window shows as many messages, then returns them as `#1 Kim: hello`. */
async function shown(page, count) {
  await page.locator(".message").nth(count - 1).waitFor();
  return await page.locator(".message").evaluateAll((rows) =>
    rows.map((row) => {
      const part = (name) => row.querySelector(name).textContent.replace(/ \(you\)$/, "");
      return `${part(".offset")} ${part(".author")}: ${part(".body")}`;
    }),
  );
}

/** Waits until the window's list of who is here has exactly these names. */
async function hasHere(page, names) {
  const expected = [...names].sort();
  const isThere = (expected) => {
    const rows = [...document.querySelectorAll("#here .author")];
    const names = rows.map((row) => row.textContent.replace(/ \(you\)$/, "")).sort();
    return JSON.stringify(names) === JSON.stringify(expected);
  };
  await page.waitForFunction(isThere, expected).catch(async (error) => {
    throw new Error(`${page.url()} has ${await page.locator("#here").textContent()}, not ${expected}`, { cause: error });
  });
}

async function publish(room, text) {
  const body = JSON.stringify({ topic: `chat/${room}/messages`, data: { from: "Choi", text } });
  const answer = await fetch(`http://${chat.broker}/v1/publish`, { method: "POST", body });
  assert.equal(answer.status, 200, await answer.text());
}

async function picture(page, name) {
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

const names = WAYS.map((way) => NAMES[way]);

describe("the chat room", { timeout: 240_000 }, () => {
  it("is one room in three ways: the same messages at the same offsets, and the same people", async () => {
    const pages = await enterAll("one");
    for (const [i, way] of WAYS.entries()) {
      await say(pages[way], `by ${way}`);
      for (const other of WAYS) await shown(pages[other], i + 1);
    }
    const expected = WAYS.map((way, i) => `#${i + 1} ${NAMES[way]}: by ${way}`);
    for (const way of WAYS) {
      assert.deepEqual(await shown(pages[way], WAYS.length), expected, way);
      assert.deepEqual(await pages[way].locator(".message.own .body").allTextContents(), [`by ${way}`]);
      await hasHere(pages[way], names);
      assert.deepEqual(await pages[way].locator("#here .via").allTextContents(), ["WebSocket", "SockJS", "EventSource"]);
      await picture(pages[way], `chat-${way}`);
    }
    assert.deepEqual(complaints, []);
  });

  it("tells everybody who enters and who closes the window", async () => {
    const pages = await enterAll("doors");
    const second = await enter("native", "doors", "Park");
    for (const way of WAYS) await hasHere(pages[way], names);
    await second.close();
    const guest = await enter("eventsource", "doors", "Yoon");
    for (const page of [guest, ...Object.values(pages)]) await hasHere(page, [...names, "Yoon"]);
    for (const way of WAYS) {
      await pages[way].close();
      const left = WAYS.slice(WAYS.indexOf(way) + 1);
      for (const page of [guest, ...left.map((way) => pages[way])]) {
        await hasHere(page, [...left.map((way) => NAMES[way]), "Yoon"]);
      }
    }
    assert.deepEqual(complaints, []);
  });

  it("shows whoever enters the last 50 messages", async () => {
    for (let n = 1; n <= 60; n += 1) await publish("history", `message ${n}`);
    const pages = await enterAll("history");
    await publish("history", "message 61");
    const expected = Array.from({ length: 51 }, (_, i) => `#${i + 11} Choi: message ${i + 11}`);
    for (const way of WAYS) assert.deepEqual(await shown(pages[way], 51), expected, way);
    await picture(pages.native, "chat-history");
    assert.deepEqual(complaints, []);
  });

  it("goes on after the broker was killed, with nothing lost or shown twice", async () => {
    const pages = await enterAll("kill");
    const guest = await enter("native", "kill", "Yoon");
    for (const way of WAYS) await say(pages[way], `before by ${way}`);
    for (const way of WAYS) {
      await shown(pages[way], WAYS.length);
      await hasHere(pages[way], [...names, "Yoon"]);
    }
    await chat.kill();
    for (const way of WAYS) await isDown(pages[way]);
    // One leaves while nobody is there to notice, and all others go on writing.
    await guest.close();
    for (const way of WAYS) {
      await say(pages[way], `meanwhile by ${way}`);
      await pages[way].locator("#pending li", { hasText: "meanwhile" }).waitFor();
    }
    await picture(pages.native, "chat-waiting");
    await chat.restart();
    for (const way of WAYS) await isOpen(pages[way]);
    for (const way of WAYS) await shown(pages[way], 2 * WAYS.length);
    for (const way of WAYS) await say(pages[way], `after by ${way}`);
    const all = await shown(pages.native, 3 * WAYS.length);
    assert.deepEqual(all.map((line) => line.split(" ")[0]), Array.from({ length: 3 * WAYS.length }, (_, i) => `#${i + 1}`));
    const said = ["before", "meanwhile", "after"].flatMap((when) => WAYS.map((way) => `${NAMES[way]}: ${when} by ${way}`));
    assert.deepEqual(all.map((line) => line.replace(/^#\d+ /, "")).sort(), said.sort());
    for (const way of WAYS) {
      assert.deepEqual(await shown(pages[way], 3 * WAYS.length), all, way);
      assert.equal(await pages[way].locator("#pending li").count(), 0);
      assert.deepEqual(await pages[way].locator(".note").allTextContents(), []);
      await hasHere(pages[way], names);
    }
    assert.deepEqual(complaints, []);
  });

  it("stores what is sent again once, if only the answer was lost", async () => {
    const witness = await enter("native", "answers", "Yoon");
    let isDeaf = false;
    for (const [i, way] of WAYS.entries()) {
      const page = await openWindow();
      await page.routeWebSocket(/./, (near) => {
        const far = near.connectToServer();
        far.onMessage((text) => isDeaf || near.send(text));
      });
      await page.route("**/v1/publish", async (route) => {
        const answer = await route.fetch();
        await (isDeaf ? route.abort("connectionreset") : route.fulfill({ response: answer }));
      });
      await page.goto(`http://${chat.pages}/${way}.html?${new URLSearchParams({ room: "answers", name: NAMES[way] })}`);
      await isOpen(page);
      isDeaf = true;
      await say(page, `by ${way}`);
      // It is stored, and its page does not know.
      await shown(witness, 2 * i + 1);
      await page.locator("#pending li").waitFor();
      await chat.kill();
      await isDown(page);
      isDeaf = false;
      await chat.restart();
      await page.locator("#pending li").waitFor({ state: "detached" });
      await say(page, `by ${way} again`);
      await shown(witness, 2 * i + 2);
      await page.close();
    }
    const expected = WAYS.flatMap((way) => [`by ${way}`, `by ${way} again`].map((text) => `${NAMES[way]}: ${text}`));
    const all = await shown(witness, 2 * WAYS.length);
    assert.deepEqual(all, expected.map((text, i) => `#${i + 1} ${text}`));
  });

  it("shows what is in a message as text, never as markup", async () => {
    const pages = await enterAll("markup");
    const text = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
    await say(pages.native, text);
    for (const way of WAYS) {
      assert.deepEqual(await shown(pages[way], 1), [`#1 Kim: ${text}`]);
      assert.equal(await pages[way].locator("main img, main script").count(), 0);
      assert.equal(await pages[way].title(), `markup · ${NAMES[way]}`);
    }
    assert.deepEqual(complaints, []);
  });

  it("asks for a name, and is entered and spoken in by the keyboard alone", async () => {
    const page = await openWindow();
    await page.goto(`http://${chat.pages}/`);
    await page.keyboard.type("a/b");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("#name:invalid").count(), 1, "no level of a topic");
    await page.keyboard.press("ControlOrMeta+A");
    await page.keyboard.type("김 민수");
    await picture(page, "chat-enter");
    await page.keyboard.press("Enter");
    await isOpen(page);
    await page.keyboard.type("안녕하세요");
    await page.keyboard.press("Enter");
    assert.deepEqual((await shown(page, 1)).at(-1), "#1 김 민수: 안녕하세요");
    await hasHere(page, ["김 민수"]);
    assert.deepEqual(complaints, []);
  });

  it("fits on a phone, in the dark, and every control has a name", async () => {
    const options = { viewport: { width: 375, height: 740 }, colorScheme: "dark" };
    const page = await enter("native", "phone", "Kim", options);
    await publish("phone", "a word that is far too long: " + "x".repeat(120));
    await say(page, "short");
    await shown(page, 2);
    await hasHere(page, ["Kim"]);
    await picture(page, "chat-phone");
    const { scroll, client } = await page.evaluate(() => ({
      scroll: document.documentElement.scrollWidth,
      client: document.documentElement.clientWidth,
    }));
    assert.ok(scroll <= client, `${scroll} pixels wide in a window of ${client}`);
    const nameless = await page.locator("input, button, a").evaluateAll((controls) =>
      controls.filter((one) => !one.labels?.length && !one.textContent.trim()).map(({ id }) => id),
    );
    assert.deepEqual(nameless, []);
    assert.deepEqual(complaints, []);
  });
});
