// The chat room's own process: on free ports, on a folder that goes away, and stopped by its process.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

const BROKER = /the broker listens on http:\/\/([\d.]+:\d+)\//;
const PAGES = /http:\/\/([\d.]+:\d+)\/native\.html/;

export class Chat {
  #process;
  #folder;
  /** `127.0.0.1:PORT`. */
  broker;
  /** `127.0.0.1:PORT`. */
  pages;

  static async start() {
    const chat = new Chat();
    chat.#folder = await mkdtemp(join(tmpdir(), "bongsu-chat-"));
    await chat.#spawn("127.0.0.1:0", "127.0.0.1:0");
    return chat;
  }

  /** Kills the broker, the back end and the page server without a word. */
  async kill() {
    await this.#end("SIGKILL");
  }

  /** Starts all of it again, on the same addresses and data. */
  async restart() {
    await this.#spawn(this.broker, this.pages);
  }

  async stop() {
    await this.#end("SIGTERM");
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #spawn(listen, pages) {
    const broker = process.env.BONGSU_BIN;
    if (!broker) throw new Error("BONGSU_BIN names the broker's program; bongsu-chat is beside it: `cargo build --workspace`");
    const program = join(dirname(broker), "bongsu-chat");
    const flags = ["--listen", listen, "--pages", pages, "--data", this.#folder];
    this.#process = spawn(program, flags, { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve, reject) => {
      this.#process.once("error", reject);
      this.#process.once("exit", (code) => reject(new Error(`the chat room ended with ${code} before it listened`)));
      createInterface({ input: this.#process.stdout }).on("line", (line) => {
        this.broker = BROKER.exec(line)?.[1] ?? this.broker;
        const found = PAGES.exec(line);
        if (found) {
          this.pages = found[1];
          resolve();
        }
      });
    });
  }

  async #end(signal) {
    if (!this.#process || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await ended;
  }
}
