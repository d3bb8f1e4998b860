// The same conversation with a broker: the one at BONGSU_TEST_URL (ws://…/v1/ws), or one started from the program BONGSU_BIN.

import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { conversation } from "../support/conversation.js";

let url = process.env["BONGSU_TEST_URL"];
let broker: ChildProcess | undefined;
let folder: string | undefined;

before(async () => {
  if (url !== undefined) return;
  const program = process.env["BONGSU_BIN"];
  if (program === undefined) throw new Error("BONGSU_TEST_URL or BONGSU_BIN names the broker");
  folder = await mkdtemp(join(tmpdir(), "bongsu-client-"));
  broker = spawn(program, ["serve", "--listen", "127.0.0.1:0", "--data", folder], { stdio: ["ignore", "pipe", "inherit"] });
  const { stdout } = broker;
  const found = await new Promise<string>((resolve, reject) => {
    broker?.once("error", reject);
    broker?.once("exit", (code) => reject(new Error(`the broker ended with ${code} before it listened`)));
    if (stdout === null) return;
    createInterface({ input: stdout }).on("line", (line) => {
      const address = /http:\/\/(127\.0\.0\.1:\d+)\//.exec(line)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
  url = `ws://${found}/v1/ws`;
});

after(async () => {
  if (broker !== undefined) {
    const ended = new Promise((resolve) => broker?.once("exit", resolve));
    broker.kill();
    await ended;
  }
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

conversation("with a broker", () => url as string);
