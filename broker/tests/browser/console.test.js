// The console against a node: it shows what there is and does what it is told to.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { Broker } from "./broker.js";
import { Console, launch } from "./console.js";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const TOKENS = ["viewer", "operator", "admin"].map((role) => `{ name = "ada-${role}", sha256 = "${sha256(`${role}-token`)}", role = "${role}" }`);

let browser;
let node;
/** The same with administrators who show tokens. */
let guarded;
let opened = [];

before(async () => {
  browser = await launch();
  node = await Broker.start();
  guarded = await Broker.start([`admin.tokens=[${TOKENS.join(", ")}]`]);
});

after(async () => {
  await browser?.close();
  await node?.stop();
  await guarded?.stop();
});

afterEach(async () => {
  for (const one of opened) await one.close();
  opened = [];
});

async function open(on = node, options = {}) {
  const one = await Console.open(browser, on.admin, options);
  opened.push(one);
  return one;
}

describe("the console", { timeout: 240_000 }, () => {
  it("is a page that may load and run its own files only, and is asked for once", async () => {
    const first = await fetch(`http://${node.admin}/`);
    const policy = first.headers.get("content-security-policy");
    for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) assert.ok(policy.includes(part), part);
    assert.ok(!policy.includes("unsafe"), policy);
    const again = await fetch(`http://${node.admin}/`, { headers: { "if-none-match": first.headers.get("etag") }, cache: "no-store" });
    assert.equal(again.status, 304);
    assert.equal((await fetch(`http://${node.admin}/console/nothing.js`)).status, 404);
  });

  it("shows the nodes as they are, with figures that move", async () => {
    const one = await open();
    await one.page.getByText(/As of/).waitFor();
    assert.equal(await one.heading(), "Overview");
    await one.page.getByRole("table", { name: "Nodes" }).getByText("ok").first().waitFor();
    // The second answer makes a rate of the first.
    await one.page.locator(".tile", { hasText: "Messages in" }).getByText("0/s").first().waitFor();
    const words = await one.page.locator("figure", { hasText: "Latency of the store" }).locator("[id$=words]").textContent();
    assert.match(words, /In the last five minutes\. .+: now .+ms, least .+ms, most .+ms\./);
    await one.isUsable("overview");
    await one.isClean();
  });

  it("lets nobody in without a token where the node knows one, and keeps it out of every address", async () => {
    const one = await open(guarded, { expected: [401] });
    await one.page.getByLabel("Token of an administrator").waitFor();
    assert.equal(await one.page.locator("#navigation").isVisible(), false);
    await one.isUsable("sign in");
    await one.page.getByLabel("Token of an administrator").fill("nobody-has-this");
    await one.button("Sign in").click();
    await one.page.getByText("No administrator has this token.").waitFor();
    const addresses = [];
    one.page.on("request", (request) => addresses.push(request.url()));
    await one.page.getByLabel("Token of an administrator").fill("viewer-token");
    await one.button("Sign in").click();
    await one.page.locator("#who", { hasText: "ada-viewer viewer" }).waitFor();
    await one.page.getByText(/As of/).waitFor();
    addresses.push(one.page.url());
    assert.deepEqual(addresses.filter((address) => address.includes("viewer-token")), []);
    // It stays with the tab, and goes with it.
    await one.page.reload();
    await one.page.locator("#who", { hasText: "ada-viewer viewer" }).waitFor();
    assert.equal(await one.page.evaluate(() => JSON.stringify(localStorage).includes("token")), false);
    await one.button("Sign out").click();
    await one.page.getByLabel("Token of an administrator").waitFor();
    assert.equal(await one.page.evaluate(() => sessionStorage.length), 0);
    await one.isClean();
  });

  it("brings the form back when the token is no longer good", async () => {
    const one = await open(guarded, { expected: [401] });
    await one.page.getByLabel("Token of an administrator").fill("admin-token");
    await one.button("Sign in").click();
    await one.page.getByText(/As of/).waitFor();
    await one.page.evaluate(() => sessionStorage.setItem("bongsu.token", "taken-back"));
    await one.page.getByLabel("Token of an administrator").waitFor();
    await one.page.getByText("No administrator has this token.").waitFor();
    await one.isClean();
  });

  it("says so when the node is gone, and goes on when it is back", async () => {
    const one = await open();
    await one.page.getByText(/As of/).waitFor();
    await one.context.setOffline(true);
    await one.page.getByText("The node cannot be reached.").waitFor();
    await one.context.setOffline(false);
    await one.page.getByText("The node cannot be reached.").waitFor({ state: "detached" });
    await one.page.getByText(/As of/).waitFor();
  });

  it("changes a policy, which holds from then on, and rolls it back", async () => {
    const post = (n) => fetch(`http://${node.address}/v1/stream/big/${n}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(["x".repeat(4096)]) });
    const put = await fetch(`http://${node.address}/v1/stream/big/1`, { method: "PUT", headers: { "content-type": "application/json" } });
    assert.ok(put.ok, `${put.status}`);
    assert.ok((await post(1)).ok);
    const one = await open(node, { hash: "#/policies", expected: [422] });
    await one.settled();
    const editor = one.page.getByLabel("Policies, as JSON");
    await editor.fill('{"policies": [{"name": "small", "filter": "big/#", "message_bytes": "1KiB"}]}');
    await one.page.locator(".verdict").getByText("Valid. Not saved yet.").waitFor();
    await editor.fill('{"policies": [{"name": "small", "filter": "big/+/#/no", "message_bytes": "1KiB"}]}');
    await one.page.locator(".verdict .notice").waitFor();
    await editor.fill('{"policies": [{"name": "small", "filter": "big/#", "message_bytes": "1KiB"}]}');
    await one.page.locator(".verdict").getByText("Valid. Not saved yet.").waitFor();
    await one.confirm(one.button("Save…"), "Save");
    await one.page.locator("main .notice", { hasText: "Saved. Every node follows it." }).waitFor();
    assert.equal((await post(1)).status, 413);
    // What a filter hits, by the log that is there.
    await one.page.getByLabel("What would this filter hit?").fill("big/#");
    await one.button("Preview").click();
    await one.page.getByRole("table", { name: "The first topics under big/#" }).getByText("big/1").waitFor();
    // Another change and back again.
    await editor.fill('{"policies": []}');
    await one.confirm(one.button("Save…"), "Save");
    const versions = one.page.getByRole("table", { name: "Versions" }).getByRole("rowheader");
    await versions.nth(1).waitFor();
    assert.ok((await post(1)).ok);
    const first = await versions.nth(1).textContent();
    await one.confirm(one.button(`Roll back to version ${first}`), "Roll back", first);
    await versions.nth(2).waitFor();
    assert.match(await editor.inputValue(), /small/);
    assert.equal((await post(1)).status, 413);
    await one.go(["audit"]);
    await one.page.getByRole("button", { name: /Details of policies/ }).first().click();
    await one.dialog().getByRole("region", { name: "Details" }).getByText("small").waitFor();
    await one.isUsable("details of a change");
    await one.isClean();
  });

  it("shows both versions when two save at once", async () => {
    const [one, other] = [await open(node, { hash: "#/limits", expected: [412] }), await open(node, { hash: "#/limits" })];
    await one.settled();
    await other.settled();
    const set = (window, n) => window.page.getByLabel("Limits, as JSON").fill(JSON.stringify({ limits: { topics_per_connection: n } }));
    await set(one, 1001);
    await set(other, 1002);
    await other.confirm(other.button("Save…"), "Save");
    await other.page.locator("main .notice", { hasText: "Saved. Every node follows it." }).waitFor();
    await one.button("Save…").click();
    await one.dialog().getByRole("button", { name: "Save", exact: true }).click();
    const conflict = one.page.getByRole("dialog", { name: "It has changed" });
    await conflict.getByRole("region", { name: "Theirs, which holds now" }).getByText("1002").waitFor();
    await conflict.getByRole("button", { name: "Take theirs" }).click();
    assert.match(await one.page.getByLabel("Limits, as JSON").inputValue(), /1002/);
    await one.isClean();
    await other.isClean();
  });

  it("makes a key, shows its secret once, and takes the key back", async () => {
    const one = await open(guarded, { expected: [401] });
    await one.page.getByLabel("Token of an administrator").fill("admin-token");
    await one.button("Sign in").click();
    await one.page.getByText(/As of/).waitFor();
    await one.go(["keys"]);
    await one.button("Make a key…").click();
    await one.dialog().getByLabel("Name", { exact: true }).fill("deploy");
    await one.dialog().getByLabel("Role").selectOption("viewer");
    await one.dialog().getByRole("button", { name: "Make it" }).click();
    const shown = one.page.getByRole("dialog", { name: "Key deploy" });
    const secret = await shown.locator(".notice code").textContent();
    const asks = () => fetch(`http://${guarded.admin}/v1/whoami`, { headers: { authorization: `Bearer ${secret}` } });
    assert.equal((await (await asks()).json()).role, "viewer");
    await one.page.keyboard.press("Escape");
    await one.page.locator("dialog").waitFor({ state: "detached" });
    assert.ok(!(await one.page.content()).includes(secret));
    await one.confirm(one.button("Delete deploy"), "Delete", "deploy");
    await one.page.locator(".empty", { hasText: "There is no key yet." }).waitFor();
    assert.equal((await asks()).status, 401);
    await one.isClean();
  });
});
