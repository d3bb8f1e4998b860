// What a client and a broker do together, over real sockets and in real time. Runs against the model and against a broker.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { WebSocket } from "ws";
import { Client, type BongsuError, type Item, type Message, type Subscription } from "../../src/index.js";

/** A client whose connections the test can break. */
class Breakable {
  readonly #sockets = new Set<WebSocket>();
  readonly client: Client;

  constructor(url: string) {
    const sockets = this.#sockets;
    this.client = new Client(url, {
      WebSocket: class extends WebSocket {
        constructor(address: string, protocols: string[]) {
          super(address, protocols);
          sockets.add(this);
        }
      },
      reconnectFirstMs: 20,
    });
  }

  break(): void {
    for (const socket of this.#sockets) socket.terminate();
    this.#sockets.clear();
  }
}

async function take<T>(subscription: Subscription<T>, n: number): Promise<Message<T>[]> {
  const messages: Message<T>[] = [];
  for await (const message of subscription) {
    messages.push(message);
    if (messages.length === n) break;
  }
  return messages;
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

/** `address` gives the broker's; topics are new for each run, so that a broker that keeps its data may be used again. */
export function conversation(name: string, address: () => string): void {
  const run = Date.now().toString(36);
  let n = 0;
  const newTopic = (): string => `test/${run}/${++n}`;

  async function withClients(use: (...clients: Breakable[]) => Promise<void>): Promise<void> {
    const clients = [new Breakable(address()), new Breakable(address())];
    try {
      await use(...clients);
    } finally {
      await Promise.all(clients.map(({ client }) => client.close()));
    }
  }

  describe(name, { timeout: 60_000 }, () => {
    it("carries every form of payload, with headers and id, and knows a repeated one", async () => {
      await withClients(async (one, other) => {
        const topic = newTopic();
        const subscription = one.client.subscribe(topic);
        await subscription.ready;
        const { client } = other as Breakable;
        const first = await client.publish(topic, { hello: "봉수" }, { headers: { a: "b" }, id: "x" });
        assert.deepEqual(await client.publish(topic, { hello: "봉수" }, { id: "x" }), { ...first, duplicate: true });
        await client.publish(topic, "a,b", { contentType: "text/csv" });
        await client.publish(topic, Uint8Array.of(0, 1, 255));
        await assert.rejects(client.publish(topic, 1, { expect: 1 }), (error: BongsuError) => error.code === "conflict" && error.head?.offset === 3);
        const messages = await take(subscription, 3);
        assert.deepEqual(messages.map(({ offset, data }) => [offset, data]), [[1, { hello: "봉수" }], [2, "a,b"], [3, Uint8Array.of(0, 1, 255)]]);
        assert.deepEqual([messages[0]?.headers, messages[0]?.id, messages[1]?.contentType], [{ a: "b" }, "x", "text/csv"]);
      });
    });

    it("reads history page by page, both ways, and from the last, a place and a time", async () => {
      await withClients(async ({ client }) => {
        const topic = newTopic();
        for (const i of upTo(5)) await client.publish(topic, i);
        const pages: unknown[][] = [];
        for (let page = await client.history(topic, { limit: 2 }); ; page = (await page.next()) ?? assert.fail()) {
          pages.push(page.messages.map(({ data }) => data));
          if (!page.more) break;
        }
        assert.deepEqual(pages, [[5, 4], [3, 2], [1]]);
        const { messages, head, first } = await client.history(topic, { from: "earliest" });
        assert.deepEqual([messages.length, head.offset, first.offset], [5, 5, 1]);
        const third = messages[2] as Message;
        const after = third.position ?? assert.fail();
        const starts = [{ last: 2 }, { after }, { time: 0 }] as const;
        const counts = await Promise.all(starts.map(async (from) => (await client.history(topic, { from })).messages.length));
        assert.deepEqual(counts, [2, 2, 5]);
        assert.deepEqual((await take(client.subscribe(topic, { from: { after } }), 2)).map(({ data }) => data), [4, 5]);
      });
    });

    it("resumes a topic and a pattern after each break, with nothing lost or twice", async () => {
      await withClients(async (one, other) => {
        const topic = newTopic();
        const breaking = one as Breakable;
        const all = take(breaking.client.subscribe(`${topic}/#`, { from: "earliest" }), 120);
        const single = take((other as Breakable).client.subscribe(`${topic}/0`, { from: "earliest" }), 40);
        const publisher = new Breakable(address());
        for (const i of upTo(120)) {
          await publisher.client.publish(`${topic}/${i % 3}`, i);
          if (i % 20 === 10) breaking.break();
          if (i % 30 === 20) (other as Breakable).break();
          if (i % 40 === 30) publisher.break();
        }
        const messages = await all;
        for (const level of [0, 1, 2]) {
          const own = messages.filter((message) => message.topic === `${topic}/${level}`);
          assert.deepEqual(own.map(({ offset }) => offset), upTo(40));
        }
        assert.deepEqual((await single).map(({ offset }) => offset), upTo(40));
        await publisher.client.close();
      });
    });

    it("sends publishes that were under way again, and they are there once", async () => {
      await withClients(async (one) => {
        const topic = newTopic();
        const { client } = one as Breakable;
        await client.opened();
        const promises = upTo(50).map((i) => client.publish(topic, i));
        await promises[0];
        one?.break();
        await Promise.all(promises);
        const { messages } = await client.history(topic, { from: "earliest", limit: 100 });
        assert.deepEqual(messages.map(({ data }) => data as number).sort((a, b) => a - b), upTo(50));
      });
    });

    it("gives a slow application everything, through a small buffer", async () => {
      await withClients(async ({ client }) => {
        const topic = newTopic();
        const subscription = client.subscribe(topic, { from: "earliest", bufferMessages: 8 });
        const pauses: boolean[] = [];
        subscription.on("paused", (paused) => pauses.push(paused));
        await Promise.all(upTo(400).map((i) => client.publish(topic, i)));
        const items: Item[] = [];
        for await (const item of subscription.items()) {
          items.push(item);
          assert.ok(subscription.buffered <= 8);
          if (items.length === 400) break;
        }
        assert.deepEqual(items.map((item) => item.kind === "message" && item.offset), upTo(400));
        assert.ok(pauses.length >= 2);
      });
    });

    it("shows who is present, who comes and who goes", async () => {
      await withClients(async (one, other) => {
        const topic = newTopic();
        const watched = one.client.presence<string>(topic);
        const watch = watched.watch();
        await watch.subscription.ready;
        const changes = watch[Symbol.asyncIterator]();
        const next = async (): Promise<unknown> => {
          const { value } = await changes.next();
          return value.kind === "joined" ? ["joined", value.member.info] : ["left", value.session];
        };
        const { client } = other as Breakable;
        const { session } = await client.opened();
        await client.presence(topic).enter("Kim");
        assert.deepEqual(await next(), ["joined", "Kim"]);
        const { members, total } = await watched.members();
        assert.deepEqual([members.map((member) => member.info), total], [["Kim"], 1]);
        await client.presence(topic).leave();
        assert.deepEqual(await next(), ["left", session]);
        await client.presence(topic).enter("Lee");
        assert.deepEqual(await next(), ["joined", "Lee"]);
        other?.break();
        assert.deepEqual(await next(), ["left", session]);
        assert.deepEqual(await next(), ["joined", "Lee"]);
        watch.close();
      });
    });

    it("answers what is asked behind many publishes", async () => {
      await withClients(async ({ client }) => {
        const topic = newTopic();
        const first = take(client.subscribe(topic, { from: "earliest" }), 1);
        const promises = upTo(400).map((i) => client.publish(topic, i));
        await first;
        await client.ping();
        await Promise.all(promises);
      });
    });

    it("answers a ping", async () => {
      await withClients(async ({ client }) => {
        assert.ok((await client.ping()).roundTripMs >= 0);
      });
    });
  });
}
