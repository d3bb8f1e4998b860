// What a parked long poll costs, and how long one message takes to wake ten thousand of them: see docs/benchmarks/http.md.
//
//   BONGSU_BIN=../../../target/release/bongsu node parked-polls.js [polls]

import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const PATH = "/v1/stream/polls?offset=now&live=long-poll";

if (process.send) {
  // One of the clients: a process may hold 20,000 open files.
  const [port, count] = process.argv.slice(2).map(Number);
  const answers = [];
  for (let i = 0; i < count; i++) {
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    socket.write(`GET ${PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    answers.push(
      new Promise((resolve) => socket.once("data", (data) => resolve([Date.now(), data.includes("200 OK")]))),
    );
    // Below the rate at which a node turns connections away.
    if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 150));
  }
  process.send({ parked: count });
  const all = await Promise.all(answers);
  process.send({ last: Math.max(...all.map(([at]) => at)), answered: all.filter(([, ok]) => ok).length });
  process.exit(0);
}

const polls = Number(process.argv[2] ?? 10_000);
const folder = await mkdtemp(join(tmpdir(), "bongsu-polls-"));
const settings = ["--listen", "127.0.0.1:0", "--data", folder, "--set", "http.long_poll_timeout=10m"];
const broker = spawn(process.env.BONGSU_BIN, ["serve", ...settings], { stdio: ["ignore", "pipe", "ignore"] });
const [line] = await once(createInterface({ input: broker.stdout }), "line");
const port = Number(/:(\d+)\/$/.exec(line.trim())[1]);
const publish = (data) =>
  fetch(`http://127.0.0.1:${port}/v1/publish`, { method: "POST", body: JSON.stringify({ topic: "polls", data }) });
const residentKib = async () =>
  Number(/RssAnon:\s+(\d+)/.exec(await readFile(`/proc/${broker.pid}/status`, "utf8"))[1]);

await publish("first");
await (await fetch(`http://127.0.0.1:${port}/v1/stream/polls`)).text();
const before = await residentKib();
const clients = [0, 1].map(() => fork(import.meta.filename, [port, polls / 2]));
await Promise.all(clients.map((client) => once(client, "message")));
await new Promise((resolve) => setTimeout(resolve, 3000));
console.log(`${polls} parked polls: ${(((await residentKib()) - before) / polls).toFixed(1)} KiB each`);
const answers = clients.map((client) => once(client, "message"));
const published = Date.now();
await publish("hello to all of you");
const woken = (await Promise.all(answers)).map(([message]) => message);
const answered = woken.reduce((sum, { answered }) => sum + answered, 0);
console.log(`woken: ${answered}, the last ${Math.max(...woken.map(({ last }) => last)) - published} ms after the publish`);
broker.kill("SIGKILL");
await rm(folder, { recursive: true, force: true });
