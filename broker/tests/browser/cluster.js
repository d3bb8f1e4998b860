// Three nodes behind the round-robin proxy that `deploy/` configures; all of it ends with the test.

import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

const CONFIGURATION = fileURLToPath(new URL("../../../deploy/haproxy.cfg", import.meta.url));

export class Cluster {
  #process;
  #lines;
  /** `127.0.0.1:PORT` of the proxy. */
  address;

  static async start(settings) {
    const cluster = new Cluster();
    const broker = process.env.BONGSU_BIN;
    if (!broker) throw new Error("BONGSU_BIN names the broker's program; build it with `cargo build`");
    // Built beside it by `cargo build --workspace --all-targets`.
    const program = join(dirname(broker), "examples", "cluster");
    cluster.#process = spawn(program, [broker, CONFIGURATION, ...settings], { stdio: ["pipe", "pipe", "inherit"] });
    cluster.#lines = createInterface({ input: cluster.#process.stdout })[Symbol.asyncIterator]();
    cluster.address = new URL((await cluster.#line()).trim()).host;
    await cluster.#served();
    return cluster;
  }

  /** Ends a node without a word. */
  kill(node) {
    return this.#tell(`kill ${node}`);
  }

  /** Has a node drain, and waits until it has ended. */
  terminate(node) {
    return this.#tell(`terminate ${node}`);
  }

  /** Starts a node again, and waits until the proxy has found it. */
  async startAgain(node) {
    await this.#tell(`start ${node}`);
    await this.#served();
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.stdin.end();
    await ended;
  }

  async #tell(line) {
    this.#process.stdin.write(`${line}\n`);
    await this.#line();
  }

  async #line() {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the cluster ended");
    return value;
  }

  /** Waits until the proxy has found all three nodes. */
  async #served() {
    const found = new Set();
    const until = Date.now() + 60_000;
    while (found.size < 3) {
      if (Date.now() > until) throw new Error(`the proxy found only ${[...found]}`);
      try {
        const answer = await fetch(`http://${this.address}/readyz`, { headers: { connection: "close" } });
        found.add((await answer.json()).node);
      } catch {
        // It does not listen yet.
      }
    }
  }
}
