// The protocol's own client, as it comes from npm.

import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client";
import { afterAll, beforeAll, expect, test } from "vitest";

import { Server } from "./cluster.js";

let broker;
beforeAll(async () => {
  broker = await Server.start();
});
afterAll(() => broker.stop());

test.each(["long-poll", "sse"])("what was appended is caught up with and then followed by %s", async (live) => {
  const url = `${broker.url}/v1/stream/client/room%201/${live}`;
  const handle = await DurableStream.create({ url, contentType: "application/json" });
  await handle.append(JSON.stringify({ n: 1 }));
  const caughtUp = await stream({ url, offset: "-1", live: false });
  expect(await caughtUp.json()).toEqual([{ n: 1 }]);

  const following = await stream({ url, offset: caughtUp.offset, live });
  const found = [];
  const done = new Promise((resolve) => {
    following.subscribeJson(({ items }) => {
      found.push(...items);
      if (found.length === 3) resolve();
    });
  });
  for (const n of [2, 3, 4]) await handle.append(JSON.stringify({ n }));
  await done;
  following.cancel();
  expect(found).toEqual([{ n: 2 }, { n: 3 }, { n: 4 }]);
});

test("a stream ends for its readers when it is closed", async () => {
  const url = `${broker.url}/v1/stream/client/closed`;
  const handle = await DurableStream.create({ url, contentType: "text/plain" });
  const following = await stream({ url, offset: "-1", live: "long-poll" });
  let text = "";
  following.subscribeText((chunk) => {
    text += chunk.text;
  });
  await handle.append("all");
  await handle.close({ body: " of it" });
  await following.closed;
  // The client may say that the stream is closed before it hands over the last piece.
  await expect.poll(() => text, { timeout: 60_000 }).toBe("all of it");
  expect(following.streamClosed).toBe(true);
  await expect(handle.append("more")).rejects.toThrow();
});

test("a producer's appends are there once each, over a kill of the broker", async () => {
  const url = `${broker.url}/v1/stream/client/produced`;
  const handle = await DurableStream.create({ url, contentType: "text/plain" });
  const write = async (epoch, from, until) => {
    const producer = new IdempotentProducer(handle, "writer", { epoch });
    for (let n = from; n < until; n++) {
      producer.append(`${n};`);
      // One request for each: how many go together is the client's affair, and would not be the same twice.
      await producer.flush();
    }
    await producer.detach();
  };
  await write(0, 0, 50);
  await broker.killAndRestart();
  // The same requests once more: the broker knows them though its process is another.
  await write(0, 0, 50);
  await write(1, 50, 60);
  const all = await (await stream({ url, offset: "-1", live: false })).text();
  expect(all).toBe(Array.from({ length: 60 }, (_, n) => `${n};`).join(""));
});
