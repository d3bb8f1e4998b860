// A broker of the test's own: started on a free port, on a folder that goes away, and stopped by its process.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** What the broker prints when it listens, wherever in the line. */
const ADDRESS = /http:\/\/(127\.0\.0\.1:\d+)\//;

/** The line, after the first one, in which it says where administrators find it. */
const ADMINISTRATORS = /^administrators /;

export class Broker {
  #process;
  #folder;
  #settings;
  /** `127.0.0.1:PORT`. */
  address;
  /** The same for administrators. */
  admin;

  /** Each setting as `key=value`. */
  static async start(settings = []) {
    const broker = new Broker();
    broker.#settings = settings.flatMap((setting) => ["--set", setting]);
    broker.#folder = await mkdtemp(join(tmpdir(), "bongsu-browser-"));
    await broker.#spawn("127.0.0.1:0");
    return broker;
  }

  /** Kills it without a word and starts it again, on the same address and data. */
  async killAndRestart() {
    await this.#end("SIGKILL");
    await this.#spawn(this.address);
  }

  async stop() {
    await this.#end("SIGTERM");
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #spawn(listen) {
    const binary = process.env.BONGSU_BIN;
    if (!binary) throw new Error("BONGSU_BIN names the broker's program; build it with `cargo build -p bongsu`");
    this.#process = spawn(binary, ["serve", "--listen", listen, "--data", this.#folder, ...this.#settings], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let address;
    this.address = await new Promise((resolve, reject) => {
      this.#process.once("error", reject);
      this.#process.once("exit", (code) => reject(new Error(`the broker ended with ${code} before it listened`)));
      createInterface({ input: this.#process.stdout }).on("line", (line) => {
        const found = ADDRESS.exec(line);
        if (!found) return;
        if (!ADMINISTRATORS.test(line)) {
          address ??= found[1];
          return;
        }
        this.admin = found[1];
        resolve(address);
      });
    });
  }

  async #end(signal) {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await ended;
  }
}
