// Every page of the console: nothing that somebody wrote runs, everybody can use it, and it says what went wrong.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test
//
// PICTURES names a folder that gets a picture of each page, in each look.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { Broker } from "./broker.js";
import { Console, HOSTILE, LOOKS, launch } from "./console.js";
import { PAGES, answer, as, problem } from "./console-answers.js";

let browser;
let node;
let opened = [];

before(async () => {
  browser = await launch();
  node = await Broker.start();
});

after(async () => {
  await browser?.close();
  await node?.stop();
});

afterEach(async () => {
  for (const one of opened) await one.close();
  opened = [];
});

/** The console before answers that are not the node's. */
async function open({ change, ...options } = {}) {
  const one = await Console.open(browser, node.admin, { prepare: (page) => answer(page, change), ...options });
  opened.push(one);
  await one.settled();
  return one;
}

async function picture(one, name) {
  if (!process.env.PICTURES) return;
  await mkdir(process.env.PICTURES, { recursive: true });
  await one.page.screenshot({ path: join(process.env.PICTURES, `${name}.png`) });
}

const json = (any) => ({ status: 200, headers: { etag: '"1-7"' }, json: any });

describe("the console's pages", { timeout: 300_000 }, () => {
  for (const [look, options] of Object.entries(LOOKS)) {
    it(`run nothing that somebody wrote and keep nobody out: ${look}`, async () => {
      const one = await open({ look: options });
      for (const [name, [parts, query]] of Object.entries(PAGES)) {
        await one.go(parts, query);
        // What is folded is on the page too.
        for (const summary of await one.page.locator("main summary").all()) await summary.click();
        await one.isUsable(`${name}, ${look}`);
        await one.isClean(`${name}, ${look}`);
        await picture(one, `${look}-${name}`);
      }
    });
  }

  it("are reached by the keyboard alone, and the focus comes back", async () => {
    const one = await open();
    const { keyboard } = one.page;
    const focus = () => one.page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
    await one.page.locator("#skip").focus();
    await keyboard.press("Enter");
    assert.equal(await focus(), "Overview");
    // Backwards from the heading is the navigation.
    for (let i = 0; i < 30 && (await focus()) !== "Topics"; i += 1) await keyboard.press("Shift+Tab");
    await keyboard.press("Enter");
    await one.page.locator("main h1", { hasText: "Topics" }).waitFor();
    await one.settled();
    await keyboard.press("/");
    assert.equal(await one.page.evaluate(() => document.activeElement.type), "search");
    await keyboard.type("chat/");
    await keyboard.press("Enter");
    await one.page.waitForFunction(() => location.hash.includes("prefix=chat"));
    await one.settled();
    await one.button("Publish…").focus();
    await keyboard.press("Enter");
    await one.dialog().waitFor();
    assert.ok(await one.page.evaluate(() => document.activeElement.closest("dialog") !== null));
    // Around the whole dialog and never out of it, but for the browser's own controls.
    for (let i = 0; i < 20; i += 1) {
      await keyboard.press("Tab");
      assert.ok(await one.page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog") !== null));
    }
    await keyboard.press("Escape");
    await one.dialog().waitFor({ state: "detached" });
    assert.equal(await focus(), "Publish…");
    await one.isClean();
  });

  it("let nobody be caught in the editor", async () => {
    const one = await open({ hash: "#/policies" });
    await one.page.locator("textarea").focus();
    await one.page.keyboard.press("Tab");
    assert.notEqual(await one.page.evaluate(() => document.activeElement.tagName), "TEXTAREA");
  });

  it("offer a viewer nothing that takes more", async () => {
    const one = await open({ change: as("viewer") });
    const links = await one.page.locator("#navigation a").allTextContents();
    assert.ok(links.includes("Topics") && !links.includes("Trace") && !links.includes("Keys"), links.join());
    for (const [name, [parts, query]] of Object.entries(PAGES)) {
      if (["publish", "tail", "trace", "keys", "tokens", "whole", "messages"].includes(name)) continue;
      await one.go(parts, query);
      const offered = await one.page.locator("main button").allTextContents();
      const changes = offered.filter((text) => text.endsWith("…"));
      assert.deepEqual(changes, [], name);
    }
    await one.go(["keys"]);
    assert.equal(await one.heading(), "There is no such page");
    await one.isClean();
  });

  it("say why something was not done, at which place, and what to do", async () => {
    const errors = [{ at: "policies[0].filter", detail: HOSTILE }];
    const one = await open({ hash: "#/policies", expected: [422, 503], change: (operation) => (operation === "POST /v1/policies/validate" ? problem(422, "invalid", "policies[0].filter: it is none", errors) : undefined) });
    await one.page.locator("textarea").fill('{"policies": [{}]}');
    const told = one.page.locator(".verdict .notice");
    await told.getByText("policies[0].filter: it is none.").waitFor();
    assert.ok((await told.textContent()).includes(HOSTILE));
    await one.page.locator("textarea").fill('{"policies": [\n{]}');
    await told.getByText(/this is no JSON, in line 2/i).waitFor();
    await answer(one.page, (operation) => (operation === "GET /v1/audit" ? problem(503, "unavailable", "the store does not answer") : undefined));
    await one.go(["audit"]);
    await one.page.getByText("The store does not answer.").waitFor();
    await one.page.getByText(/Try again in a moment/).waitFor();
    await answer(one.page);
    await one.button("Try again").click();
    await one.page.getByText("policies.replace").waitFor();
    await one.isClean();
  });

  it("show both versions where somebody else saved another one first", async () => {
    let saved;
    const one = await open({
      hash: "#/policies",
      expected: [412],
      change: (operation, request) => {
        if (operation === "PUT /v1/policies" && request.headers()["if-match"] === '"1-7"') {
          saved = true;
          return problem(412, "changed", "it is version 1-8");
        }
        if (operation === "PUT /v1/policies") return json({ policies: [], version: "1-9" });
        if (operation === "GET /v1/policies" && saved) return { status: 200, headers: { etag: '"1-8"' }, json: { policies: [{ filter: "theirs/#" }], version: "1-8" } };
        return undefined;
      },
    });
    await one.page.locator("textarea").fill('{"policies": [{"filter": "mine/#"}]}');
    await one.button("Save…").click();
    await one.dialog().getByRole("button", { name: "Save", exact: true }).click();
    const conflict = one.page.getByRole("dialog", { name: "It has changed" });
    await conflict.getByRole("region", { name: "Theirs, which holds now" }).getByText("theirs/#").waitFor();
    await conflict.getByRole("region", { name: "Yours" }).getByText("mine/#").waitFor();
    await conflict.getByRole("button", { name: "Go on with mine, over theirs" }).click();
    assert.match(await one.page.locator("textarea").inputValue(), /mine/);
    const sent = one.page.waitForRequest((request) => request.method() === "PUT");
    await one.button("Save…").click();
    await one.dialog().getByRole("button", { name: "Save", exact: true }).click();
    assert.equal((await sent).headers()["if-match"], '"1-8"');
    await one.isClean();
  });

  it("ask for the name of what is destroyed", async () => {
    const one = await open({ hash: `#/topics/${encodeURIComponent("chat/lobby")}?view=whole` });
    let n_deleted = 0;
    one.page.on("request", (request) => (n_deleted += request.method() === "DELETE"));
    await one.button("Delete…").click();
    const dialog = one.dialog();
    await dialog.getByLabel(/^To go on, type/).fill("chat/lobb");
    await dialog.getByRole("button", { name: "Delete", exact: true }).click();
    await dialog.getByText("What you typed is another name.").waitFor();
    assert.equal(n_deleted, 0);
    await dialog.getByLabel(/^To go on, type/).fill("chat/lobby");
    await dialog.getByRole("button", { name: "Delete", exact: true }).click();
    await dialog.waitFor({ state: "detached" });
    assert.equal(n_deleted, 1);
  });

  it("keep the newest thousand lines of what does not end", async () => {
    const events = Array.from({ length: 2500 }, (_, i) => `data: ${JSON.stringify({ delivery: { topic: "fast", epoch: 1, offset: i + 1, time: 0, text: `${i + 1}` } })}\n\n`);
    let n_asked = 0;
    const change = (operation) => {
      if (!operation.endsWith("/tail")) return undefined;
      n_asked += 1;
      return { status: 200, contentType: "text/event-stream", body: n_asked === 1 ? events.join("") : "" };
    };
    const one = await open({ hash: "#/topics/fast?view=tail", change });
    await one.page.getByText("2,500 came").waitFor();
    await one.page.locator(".lines li", { hasText: "#2500" }).waitFor();
    assert.equal(await one.page.locator(".lines li").count(), 1000);
    await one.button("Clear").click();
    assert.equal(await one.page.locator(".lines li").count(), 0);
  });

  it("cut what is large, and give all of it as a file", async () => {
    const one = await open({ hash: `#/topics/${encodeURIComponent("chat/lobby")}` });
    const message = one.page.locator(".message", { hasText: "#37" });
    await message.locator("summary").click();
    await message.getByText(/of which the beginning is shown/).waitFor();
    assert.ok((await message.locator("pre").first().textContent()).length <= 65_536);
    const download = one.page.waitForEvent("download");
    await message.getByRole("button", { name: "Download" }).click();
    assert.equal((await download).suggestedFilename(), "chat_lobby-37.txt");
    await one.isClean();
  });

  it("stop asking while nobody looks", async () => {
    const one = await open();
    await one.page.getByText(/As of/).waitFor();
    await one.page.evaluate(() => {
      Object.defineProperty(document, "hidden", { get: () => window.isHidden, configurable: true });
      window.isHidden = true;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    let n_asked = 0;
    one.page.on("request", (request) => (n_asked += request.url().endsWith("/v1/nodes")));
    // More than two of its rounds, on the page's own clock.
    await one.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 5000)));
    assert.ok(n_asked <= 1, `${n_asked} requests`);
    const asked = one.page.waitForRequest(/\/v1\/nodes$/);
    await one.page.evaluate(() => {
      window.isHidden = false;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await asked;
  });
});
