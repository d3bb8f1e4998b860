// A broker of the test's own, with a port for STOMP over TCP: started on free ports, on a folder that goes away.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** What the broker prints when it listens, wherever in the line. */
const ADDRESS = /(http|stomp):\/\/(127\.0\.0\.1:\d+)/;

export class Broker {
  #process;
  #folder;
  /** `127.0.0.1:PORT` of HTTP and WebSocket. */
  http;
  /** `127.0.0.1:PORT` of STOMP over TCP. */
  stomp;

  static async start() {
    const broker = new Broker();
    broker.#folder = await mkdtemp(join(tmpdir(), "bongsu-stomp-"));
    await broker.#spawn("127.0.0.1:0", "127.0.0.1:0");
    return broker;
  }

  /** Kills it without a word and starts it again, on the same addresses and data. */
  async killAndRestart() {
    await this.#end("SIGKILL");
    await this.#spawn(this.http, this.stomp);
  }

  async stop() {
    await this.#end("SIGTERM");
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #spawn(http, stomp) {
    const binary = process.env.BONGSU_BIN;
    if (!binary) throw new Error("BONGSU_BIN names the broker's program; build it with `cargo build -p bongsu`");
    const options = ["--listen", http, "--data", this.#folder, "--set", `stomp.listen=${stomp}`];
    // Clients reconnect by themselves; a test that ends does not wait for them.
    options.push("--set", "drain.spread=0s");
    this.#process = spawn(binary, ["serve", ...options], { stdio: ["ignore", "pipe", "ignore"] });
    const found = {};
    await new Promise((resolve, reject) => {
      this.#process.once("error", reject);
      this.#process.once("exit", (code) => reject(new Error(`the broker ended with ${code} before it listened`)));
      createInterface({ input: this.#process.stdout }).on("line", (line) => {
        const [, kind, address] = ADDRESS.exec(line) ?? [];
        // The first one is that of clients; the administrators' follows.
        if (kind) found[kind] ??= address;
        if (found.http && found.stomp) resolve();
      });
    });
    ({ http: this.http, stomp: this.stomp } = found);
  }

  async #end(signal) {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await ended;
  }
}
