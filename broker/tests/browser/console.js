// The console in a browser that complains: about what runs and must not, about what breaks the policy, about what a reader cannot use.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

/** Text that would run, if it ever became markup, in each of the ways that browsers know. */
export const HOSTILE = `<img src=x onerror="window.ran=1"><script>window.ran=2</script><svg onload="window.ran=3">"'><iframe srcdoc="<script>top.ran=4</script>">{{7*7}}javascript:window.ran=5`;

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"];

/** What a page is looked at by: a desktop in both colours, and a phone. */
export const LOOKS = {
  light: { viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light" },
};

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });

export class Console {
  #complaints = [];
  /** Statuses that a test expects the console to be answered with; the browser logs each as an error. */
  #expected;

  static async open(browser, address, { look = LOOKS.light, hash = "", expected = [], prepare = async () => {} } = {}) {
    const console = new Console();
    console.#expected = expected;
    console.context = await browser.newContext(look);
    console.context.setDefaultTimeout(20_000);
    // Neither of them is a script of the page, so the page's policy says nothing about them.
    await console.context.addInitScript({ content: await readFile(AXE, "utf8") });
    await console.context.addInitScript(() => {
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    });
    const page = await console.context.newPage();
    console.page = page;
    console.address = address;
    page.on("pageerror", (error) => console.#complaints.push(String(error.stack ?? error)));
    page.on("console", (line) => console.#hear(line));
    page.on("dialog", (dialog) => {
      console.#complaints.push(`a dialog of the browser: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol !== "blob:" && url.host !== address) console.#complaints.push(`asked somebody else: ${request.url()}`);
    });
    await prepare(page);
    await page.goto(`http://${address}/${hash}`);
    return console;
  }

  #hear(line) {
    if (!["error", "warning"].includes(line.type())) return;
    const text = line.text();
    if (this.#expected.some((status) => text.includes(`status of ${status} `))) return;
    this.#complaints.push(`${text} ${line.location().url}`);
  }

  /** Goes to a page of the console and waits for its heading. */
  async go(parts, query = {}) {
    const path = parts.map(encodeURIComponent).join("/");
    const search = new URLSearchParams(query);
    await this.page.evaluate((hash) => (location.hash = hash), `#/${path}${search.size ? `?${search}` : ""}`);
    await this.settled();
  }

  /** Waits until nothing on the page says that it is loading. */
  async settled() {
    await this.page.locator("main h1").waitFor();
    await this.page.waitForFunction(() => !document.querySelector("main .loading, main [aria-busy='true']"));
  }

  heading = () => this.page.locator("main h1").textContent();

  button = (name, options = {}) => this.page.getByRole("button", { name, ...options });

  dialog = () => this.page.getByRole("dialog");

  /** Presses what opens a dialog, fills in the name that must be typed, and confirms. */
  async confirm(opener, action, name, fill = async () => {}) {
    await opener.click();
    await this.dialog().waitFor();
    await fill(this.dialog());
    if (name !== undefined) await this.dialog().getByLabel(/^To go on, type/).fill(name);
    await this.dialog().getByRole("button", { name: action, exact: true }).click();
    await this.dialog().waitFor({ state: "detached" });
  }

  /** Nothing ran, nothing broke the policy, nothing was complained of. */
  async isClean(what = "") {
    assert.deepEqual(await this.page.evaluate(() => window.violations), [], `violations of the policy ${what}`);
    assert.equal(await this.page.evaluate(() => window.ran), undefined, `what somebody published ran ${what}`);
    assert.equal(await this.page.locator("main iframe, main img, main script, dialog iframe, dialog img, dialog script").count(), 0, `markup ${what}`);
    assert.deepEqual(this.#complaints, [], what);
  }

  /** What axe finds that keeps somebody out, and whether the page is wider than its window. */
  async isUsable(what) {
    const found = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const grave = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    const told = grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary}`).join("; ")}`);
    assert.deepEqual(told, [], what);
    const { scroll, client } = await this.page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth }));
    assert.ok(scroll <= client, `${what}: ${scroll} pixels wide in a window of ${client}`);
  }

  close = () => this.context.close();
}
