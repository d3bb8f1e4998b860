// The console against a node with clients: what they publish, who they are, what happens to them.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { Broker } from "./broker.js";
import { Console, HOSTILE, launch } from "./console.js";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/** Everybody may do everything, and bob shows a token. */
const CLIENTS = [`auth.tokens=[{ name = "bob", sha256 = "${sha256("bob-token")}", subscribe = ["#"], publish = ["#"] }]`, 'auth.anonymous.subscribe=["#"]', 'auth.anonymous.publish=["#"]'];

let browser;
let node;
let opened = [];

before(async () => {
  browser = await launch();
  node = await Broker.start(CLIENTS);
});

after(async () => {
  await browser?.close();
  await node?.stop();
});

afterEach(async () => {
  for (const one of opened) await one.close();
  opened = [];
});

async function open(options = {}) {
  const one = await Console.open(browser, node.admin, options);
  opened.push(one);
  return one;
}

describe("the console, with clients", { timeout: 240_000 }, () => {
  it("publishes, shows what comes as it comes, and finds it again by its offset", async () => {
    const [reader, writer] = [await open({ hash: "#/topics/chat%2Fdesk?view=tail", expected: [404] }), await open({ hash: "#/topics", expected: [404] })];
    await reader.page.getByText("Following.").waitFor();
    await writer.settled();
    await writer.button("Publish…").click();
    await writer.dialog().getByLabel("Topic", { exact: true }).fill("chat/desk");
    for (const text of ["is the fire lit?", HOSTILE, "it burns"]) {
      await writer.dialog().getByLabel("Payload", { exact: true }).fill(text);
      await writer.dialog().getByRole("button", { name: "Publish", exact: true }).click();
      await reader.page.locator(".lines li", { hasText: text.slice(0, 100) }).waitFor();
    }
    assert.deepEqual(await reader.page.locator(".lines .offset").allTextContents(), ["#1", "#2", "#3"]);
    await writer.page.keyboard.press("Escape");
    await writer.page.getByRole("link", { name: "chat/desk" }).click();
    await writer.page.locator(".message").nth(2).waitFor();
    await writer.go(["topics", "chat/desk"], { from: 2 });
    assert.deepEqual(await writer.page.locator(".message .offset").allTextContents(), ["#2", "#3"]);
    await writer.page.getByLabel("Containing").fill("burns");
    await writer.button("Show").click();
    await writer.page.locator(".message .offset", { hasText: "#3" }).waitFor();
    await writer.page.waitForFunction(() => document.querySelectorAll(".message").length === 1);
    await reader.isClean("tail");
    await writer.isClean("browser");
  });

  it("erases a message by its name, and purges and deletes the whole", async () => {
    for (const text of ["one", "two", "three"]) {
      const message = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ text }) };
      assert.ok((await fetch(`http://${node.admin}/v1/topics/gone%2Fsoon/messages`, message)).ok);
    }
    const one = await open({ hash: "#/topics/gone%2Fsoon", expected: [404] });
    await one.page.locator(".message", { hasText: "two" }).locator("summary").click();
    await one.confirm(one.button("Erase…"), "Erase", "2");
    await one.page.locator(".message", { hasText: "#2" }).getByText("erased", { exact: true }).waitFor();
    await one.go(["topics", "gone/soon"], { view: "whole" });
    await one.confirm(one.button("Purge…"), "Purge", "gone/soon", (dialog) => dialog.getByLabel(/^Until/).fill("2"));
    await one.page.locator(".facts div", { hasText: "First" }).getByText("3").waitFor();
    const download = one.page.waitForEvent("download");
    await one.page.getByRole("link", { name: "Download" }).click();
    assert.equal((await download).suggestedFilename(), "gone_soon.ndjson");
    await one.confirm(one.button("Delete…"), "Delete", "gone/soon");
    await one.page.waitForFunction(() => location.hash === "#/topics");
    await one.isClean();
  });

  it("shows a connection with what it reads, traces it, and ends it", async () => {
    const bob = await client(["chat/#"]);
    const one = await open({ hash: "#/connections", expected: [404] });
    await one.page.getByRole("row", { name: /bob/ }).getByRole("link").first().click();
    await one.page.getByRole("table", { name: "Subscriptions" }).getByText("chat/#").waitFor();
    const session = await one.heading();
    await one.isUsable("a connection");
    const tracer = await open({ hash: `#/trace?session=${session}` });
    await tracer.page.locator(".trace", { hasText: "follows" }).waitFor();
    await bob.page.evaluate(() => window.say({ id: 7, publish: { messages: [{ topic: "chat/traced", text: "hello" }] } }));
    await tracer.page.locator(".trace", { hasText: "publish" }).first().waitFor();
    await tracer.page.locator(".trace", { hasText: "chat/traced" }).first().waitFor();
    await one.confirm(one.button("Disconnect…"), "Disconnect", session, (dialog) => dialog.getByLabel(/^Reason/).fill("maintenance"));
    await bob.page.waitForFunction(() => window.ended);
    assert.match(await bob.page.evaluate(() => window.ended), /maintenance/);
    await tracer.page.locator(".trace", { hasText: "closed" }).waitFor();
    await one.go(["closes"], { session });
    await one.button(/Details of the end/).click();
    await one.dialog().getByText("Waited for its socket").waitFor();
    await tracer.isClean("trace");
    await one.isClean("connections");
  });

  it("blocks a user, who is gone and cannot return until it is lifted", async () => {
    const bob = await client(["chat/#"]);
    const one = await open({ hash: "#/users/bob", expected: [404] });
    await one.confirm(one.button("Block…"), "Block", "bob", (dialog) => dialog.getByLabel(/^Reason/).fill("spam"));
    await bob.page.waitForFunction(() => window.ended);
    await one.page.getByText("Blocked: spam").waitFor();
    await assert.rejects(client(["chat/#"]));
    await one.go(["users"]);
    await one.page.getByRole("table", { name: "Blocked users" }).getByText("spam").waitFor();
    await one.confirm(one.button("Unblock bob"), "Unblock");
    await one.page.locator(".empty", { hasText: "Nobody is blocked." }).waitFor();
    const again = await client(["chat/#"]);
    assert.equal(await again.page.evaluate(() => window.ended), undefined);
    await one.isClean();
  });
});

/** Bob, in a page of his own, over a WebSocket. Rejects if the node does not let him in. */
async function client(filters) {
  const context = await browser.newContext();
  const page = await context.newPage();
  opened.push({ close: () => context.close() });
  await page.goto(`http://${node.address}/icon.svg`);
  await page.evaluate(
    ([token, filters]) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`ws://${location.host}/v1/ws`, ["bongsu.v1.json", `bearer.${token}`]);
        window.say = (request) => socket.send(JSON.stringify(request));
        const subscriptions = filters.map((filter) => ({ filter, from: "latest" }));
        socket.onopen = () => window.say({ id: 1, subscribe: { subscriptions } });
        socket.onmessage = ({ data }) => [JSON.parse(data)].flat().some(({ reply }) => reply?.id === 1) && resolve();
        socket.onclose = ({ code, reason }) => {
          window.ended = `${code} ${reason}`;
          reject(new Error(window.ended));
        };
      }),
    [Buffer.from("bob-token").toString("base64url"), filters],
  );
  return { page };
}
