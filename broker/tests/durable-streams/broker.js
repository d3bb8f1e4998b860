// A broker of the test's own: started on a free port, on a folder that goes away, and stopped by its process.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** What the broker prints when it listens, wherever in the line. */
const ADDRESS = /http:\/\/(127\.0\.0\.1:\d+)\//;

export class Broker {
  #process;
  #folder;
  #address;
  #settings;

  get url() {
    return `http://${this.#address}`;
  }

  static async start(...settings) {
    const broker = new Broker();
    broker.#settings = settings.flatMap((setting) => ["--set", setting]);
    broker.#folder = await mkdtemp(join(tmpdir(), "bongsu-streams-"));
    await broker.#spawn("127.0.0.1:0");
    return broker;
  }

  /** Kills it without a word and starts it again, on the same address and data. */
  async killAndRestart() {
    await this.#end("SIGKILL");
    await this.#spawn(this.#address);
  }

  async stop() {
    await this.#end("SIGTERM");
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #spawn(listen) {
    const binary = process.env.BONGSU_BIN;
    if (!binary) throw new Error("BONGSU_BIN names the broker's program; build it with `cargo build -p bongsu`");
    // Polls that find nothing end soon: the suite waits for some of them.
    const settings = ["--set", "http.long_poll_timeout=2s", "--set", "drain.spread=0s"];
    this.#process = spawn(binary, ["serve", "--listen", listen, "--data", this.#folder, ...settings, ...this.#settings], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#address = await new Promise((resolve, reject) => {
      this.#process.once("error", reject);
      this.#process.once("exit", (code) => reject(new Error(`the broker ended with ${code} before it listened`)));
      createInterface({ input: this.#process.stdout }).on("line", (line) => {
        const found = ADDRESS.exec(line);
        if (found) resolve(found[1]);
      });
    });
  }

  async #end(signal) {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await ended;
  }
}
