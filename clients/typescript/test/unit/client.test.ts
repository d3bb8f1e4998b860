// The client against a broker that says what the test says, in a time that the test moves.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { BongsuError, Item } from "../../src/index.js";
import { Collected, World, delivery, failed, published, settle, subscribed } from "../support/world.js";

const offsets = (items: readonly Item[]) => items.map((item) => (item.kind === "message" ? item.offset : item.kind));

async function code(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "fine",
    (error: BongsuError) => error.code,
  );
}

describe("resuming", () => {
  it("reads a single topic on right after the newest message that came", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("chat/1", { from: { last: 10 } }));
    const socket = await world.connected();
    const { id, subscriptions } = socket.take("subscribe");
    assert.deepEqual(subscriptions, [{ filter: "chat/1", from: { last: 10 } }]);
    socket.emit(delivery("chat/1", 5), delivery("chat/1", 6));
    socket.emit(subscribed(id, { filter: "chat/1", since: 900, positions: [{ topic: "chat/1", position: { epoch: 1, offset: 4 } }] }));
    const next = await world.reconnected();
    assert.deepEqual(next.take("subscribe").subscriptions, [{ filter: "chat/1", from: { after: { epoch: 1, offset: 6 } } }]);
    next.emit(delivery("chat/1", 6), delivery("chat/1", 7));
    await settle();
    assert.deepEqual(offsets(got.items), [5, 6, 7]);
  });

  it("asks for the original start again until something is known", async () => {
    const world = new World();
    world.client.subscribe("chat/1", { from: "earliest" });
    await world.connected();
    const next = await world.reconnected();
    assert.deepEqual(next.take("subscribe").subscriptions, [{ filter: "chat/1", from: "earliest" }]);
  });

  it("reads a pattern on from the time since which it stands, and each topic from its place", async () => {
    const world = new World();
    world.client.subscribe("chat/#", { from: { last: 1 } });
    let socket = await world.connected();
    const { id } = socket.take("subscribe");
    socket.emit(delivery("chat/1", 5));
    // Before the reply, the original start stands; what came is named.
    socket = await world.reconnected();
    const again = socket.take("subscribe");
    const seen1 = { topic: "chat/1", position: { epoch: 1, offset: 5 } };
    assert.deepEqual(again.subscriptions, [{ filter: "chat/#", from: { last: 1 }, seen: [seen1] }]);
    assert.equal(id, again.id);
    socket.emit(subscribed(again.id, { filter: "chat/#", since: 900, positions: [{ topic: "chat/2", position: { epoch: 3, offset: 8 } }] }));
    socket = await world.reconnected();
    assert.deepEqual(socket.take("subscribe").subscriptions, [
      { filter: "chat/#", from: { time: 900 }, seen: [seen1, { topic: "chat/2", position: { epoch: 3, offset: 8 } }] },
    ]);
  });

  it("goes on where another process was", async () => {
    const world = new World();
    world.client.subscribe("a/+", { from: { time: 70 }, seen: { "a/1": { epoch: 2, offset: 9 } } });
    world.client.subscribe("b", { from: { after: { epoch: 1, offset: 2 } } });
    const socket = await world.connected();
    const { subscriptions } = socket.take("subscribe");
    assert.deepEqual(subscriptions, [
      { filter: "b", from: { after: { epoch: 1, offset: 2 } } },
      { filter: "a/+", from: { time: 70 }, seen: [{ topic: "a/1", position: { epoch: 2, offset: 9 } }] },
    ]);
  });

  it("tells that messages without history may be missing after an interruption", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("live").items());
    let socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "live", since: 900 }));
    socket.emit(delivery("live", undefined));
    socket = await world.reconnected();
    assert.deepEqual(socket.take("subscribe").subscriptions, [{ filter: "live", from: { time: 900 } }]);
    await settle();
    assert.deepEqual(got.items.slice(1), [{ kind: "lost", topic: "live", count: undefined, range: undefined }]);
  });
});

describe("order", () => {
  it("drops what was seen and asks again from before a hole", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("t").items());
    const socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "t", since: 900, positions: [{ topic: "t", position: { epoch: 1, offset: 2 } }] }));
    socket.emit(delivery("t", 2), delivery("t", 3), delivery("t", 3), delivery("t", 6), delivery("t", 7));
    await settle();
    assert.deepEqual(offsets(got.items), [3]);
    const unsubscribe = socket.take("unsubscribe");
    assert.deepEqual(unsubscribe.filters, ["t"]);
    const { id, subscriptions } = socket.take("subscribe");
    assert.deepEqual(subscriptions, [{ filter: "t", from: { after: { epoch: 1, offset: 3 } } }]);
    assert.equal(socket.requests.length, 0);
    // Still of the reading that ended.
    socket.emit(delivery("t", 4), { reply: { id: unsubscribe.id, unsubscribed: {} } });
    socket.emit(delivery("t", 4), delivery("t", 5), subscribed(id, { filter: "t", since: 901 }));
    await settle();
    assert.deepEqual(offsets(got.items), [3, 4, 5]);
  });

  it("tells a hole that the broker cannot fill, once, and goes on", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("t").items());
    const socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "t", since: 9 }));
    socket.emit(delivery("t", 1), delivery("t", 4));
    await settle();
    socket.emit({ reply: { id: socket.take("unsubscribe").id, unsubscribed: {} } });
    socket.take("subscribe");
    socket.emit(delivery("t", 4), delivery("t", 5));
    await settle();
    assert.deepEqual(got.items[1], { kind: "lost", topic: "t", count: 2, range: { epoch: 1, from: 2, until: 3 } });
    assert.deepEqual(offsets(got.items), [1, "lost", 4, 5]);
    assert.equal(socket.requests.length, 0);
  });

  it("passes on what is lost and what begins anew, in its place and as an event", async () => {
    const world = new World();
    const subscription = world.client.subscribe("t");
    const told: unknown[] = [];
    subscription.on("lost", (lost) => told.push(lost.range));
    subscription.on("reset", (reset) => told.push(reset.epoch));
    const got = new Collected(subscription.items());
    const socket = await world.connected();
    socket.take("subscribe");
    socket.emit(delivery("t", 1), { lost: { topic: "t", epoch: 1, from: 2, until: 4, count: 3 } }, delivery("t", 5));
    socket.emit({ reset: { topic: "t", epoch: 2 } }, delivery("t", 9, { epoch: 2 }), delivery("t", 10, { epoch: 2 }));
    await settle();
    assert.deepEqual(offsets(got.items), [1, "lost", 5, "reset", 9, 10]);
    assert.deepEqual(told, [{ epoch: 1, from: 2, until: 4 }, 2]);
  });

  it("gives a message to every subscription that matches, once", async () => {
    const world = new World();
    const all = new Collected(world.client.subscribe("#"));
    const one = new Collected(world.client.subscribe("a/1"));
    const same = new Collected(world.client.subscribe("a/1"));
    const other = new Collected(world.client.subscribe("b/+"));
    const socket = await world.connected();
    assert.equal(socket.take("subscribe").subscriptions.length, 3);
    socket.emit(delivery("a/1", 1), delivery("b/1", 1));
    await settle();
    assert.deepEqual([all, one, same, other].map(({ items }) => items.length), [2, 1, 1, 1]);
  });

  it("reads everything that a message can carry", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("t"));
    const socket = await world.connected();
    socket.emit(
      { delivery: { topic: "t", epoch: 7, offset: 1, time: 5, publisher: "kim", text: "봉수", type: "text/plain", headers: { a: "b" }, id: "x" } },
      { delivery: { topic: "t", epoch: 7, offset: 2, time: 6, bytes: "AP8=" } },
      { delivery: { topic: "t", epoch: 7, offset: 3, time: 7, bytes: "", erased: true } },
    );
    await settle();
    assert.deepEqual(got.items[0], {
      kind: "message", topic: "t", position: { epoch: 7, offset: 1 }, offset: 1, time: 5, publisher: "kim", data: "봉수",
      contentType: "text/plain", headers: { a: "b" }, id: "x", erased: false,
    });
    assert.deepEqual(got.items[1]?.data, Uint8Array.of(0, 255));
    assert.deepEqual([got.items[2]?.erased, got.items[2]?.data], [true, undefined]);
  });
});

describe("back pressure", () => {
  it("stops the broker when the buffer is full, and goes on from there once it is half empty", async () => {
    const world = new World();
    const subscription = world.client.subscribe("t", { bufferMessages: 4 });
    const pauses: boolean[] = [];
    subscription.on("paused", (paused) => pauses.push(paused));
    const socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "t", since: 9 }));
    for (let offset = 1; offset <= 10; offset += 1) socket.emit(delivery("t", offset));
    await settle();
    assert.equal(subscription.buffered, 4);
    assert.deepEqual(socket.take("unsubscribe").filters, ["t"]);
    assert.equal(socket.requests.length, 0);

    const loop = subscription[Symbol.asyncIterator]();
    const next = async () => (await loop.next()).value.offset;
    assert.deepEqual([await next()], [1]);
    await settle();
    assert.equal(socket.requests.length, 0);
    assert.deepEqual([await next()], [2]);
    await settle();
    const { id } = socket.take("unsubscribe");
    assert.deepEqual(socket.take("subscribe").subscriptions, [{ filter: "t", from: { after: { epoch: 1, offset: 4 } } }]);
    socket.emit(delivery("t", 9), { reply: { id, unsubscribed: {} } }, delivery("t", 5), delivery("t", 6));
    assert.deepEqual([await next(), await next(), await next(), await next()], [3, 4, 5, 6]);
    assert.deepEqual(pauses, [true, false]);
  });

  it("bounds the buffer in characters, and lets one message of any size in", async () => {
    const world = new World();
    const subscription = world.client.subscribe("t", { bufferCharacters: 1_000 });
    const socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "t", since: 9 }));
    socket.emit(delivery("t", 1, { data: "x".repeat(5_000) }));
    socket.emit(delivery("t", 2));
    assert.equal(subscription.buffered, 1);
    await settle();
    socket.take("unsubscribe");
  });

  it("stops the broker only when it has said since when it reads", async () => {
    const world = new World();
    const subscription = world.client.subscribe("t/#", { bufferMessages: 1 });
    const socket = await world.connected();
    const { id } = socket.take("subscribe");
    socket.emit(delivery("t/1", 1), delivery("t/2", 1));
    await settle();
    assert.equal(socket.requests.length, 0);
    socket.emit(subscribed(id, { filter: "t/#", since: 9 }));
    await settle();
    socket.take("unsubscribe");
    new Collected(subscription);
    await settle();
    socket.take("unsubscribe");
    // Of the second topic, the place before what was dropped.
    const seen = [1, 2].map((i) => ({ topic: `t/${i}`, position: { epoch: 1, offset: i === 1 ? 1 : 0 } }));
    assert.deepEqual(socket.take("subscribe").subscriptions, [{ filter: "t/#", from: { time: 9 }, seen }]);
  });

  it("counts what it drops of topics without history", async () => {
    const world = new World();
    const subscription = world.client.subscribe("live", { bufferMessages: 2 });
    const socket = await world.connected();
    socket.take("subscribe");
    for (let i = 0; i < 7; i += 1) socket.emit(delivery("live", undefined, { data: i }));
    await settle();
    assert.equal(socket.requests.length, 0);
    const got = new Collected(subscription.items());
    await settle();
    assert.deepEqual(got.items.map((item) => (item.kind === "message" ? item.data : item)), [
      0, 1, { kind: "lost", topic: "live", count: 5, range: undefined },
    ]);
  });

  it("does not let notices take the place of messages", async () => {
    const world = new World();
    const subscription = world.client.subscribe("#", { bufferMessages: 1 });
    const loop = subscription.items();
    let socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "#", since: 9 }), delivery("live", undefined));
    await loop.next();
    socket = await world.reconnected();
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "#", since: 10 }), delivery("t", 1));
    await settle();
    assert.equal(socket.requests.length, 0);
    assert.deepEqual([(await loop.next()).value.kind, (await loop.next()).value.kind], ["lost", "message"]);
  });

  it("keeps a slow subscription from holding up one that overlaps", async () => {
    const world = new World();
    const slow = world.client.subscribe("a/1", { bufferMessages: 2 });
    const fast = new Collected(world.client.subscribe("a/#"));
    const socket = await world.connected();
    const { id: asked } = socket.take("subscribe");
    socket.emit(subscribed(asked, { filter: "a/1", since: 9 }, { filter: "a/#", since: 9 }));
    for (let offset = 1; offset <= 6; offset += 1) socket.emit(delivery("a/1", offset));
    await settle();
    assert.deepEqual(offsets(fast.items), [1, 2, 3, 4, 5, 6]);
    assert.equal(socket.requests.length, 0);
    // Both are moved to the place of the slow one; the fast one drops what it has.
    const got = new Collected(slow);
    await settle();
    const { id, filters } = socket.take("unsubscribe");
    assert.deepEqual(filters, ["a/1", "a/#"]);
    const after = { epoch: 1, offset: 2 };
    assert.deepEqual(socket.take("subscribe").subscriptions, [
      { filter: "a/1", from: { after } },
      { filter: "a/#", from: { time: 9 }, seen: [{ topic: "a/1", position: after }] },
    ]);
    socket.emit({ reply: { id, unsubscribed: {} } });
    for (let offset = 3; offset <= 7; offset += 1) socket.emit(delivery("a/1", offset));
    await settle();
    assert.deepEqual(offsets(got.items), [1, 2, 3, 4, 5, 6, 7].slice(0, got.items.length));
    assert.deepEqual(offsets(fast.items), [1, 2, 3, 4, 5, 6, 7]);
  });
});

describe("publishing", () => {
  it("waits for a connection, and for the acknowledgment", async () => {
    const world = new World();
    const promise = world.client.publish("t", { hello: "world" }, { headers: { a: "b" }, expect: 0 });
    const socket = await world.connected();
    const { id, messages } = socket.take("publish");
    assert.deepEqual(messages, [{ topic: "t", data: { hello: "world" }, headers: { a: "b" }, id: "id-1", expect: 0 }]);
    socket.emit(published(id, 7));
    assert.deepEqual(await promise, { position: { epoch: 1, offset: 7 }, duplicate: false, id: "id-1" });
  });

  it("sends what has no answer again with the same id, in order", async () => {
    const world = new World();
    let socket = await world.connected();
    const promises = [world.client.publish("t", 1), world.client.publish("t", 2), world.client.publish("t", 3)];
    await settle();
    assert.equal(socket.frames, 1);
    socket.emit(published(socket.take("publish").id, 1));
    socket = await world.reconnected();
    const again = [socket.take("publish"), socket.take("publish")];
    assert.deepEqual(again.map(({ messages }) => messages[0].id), ["id-2", "id-3"]);
    socket.emit(published(again[0].id, 2, { duplicate: true }), published(again[1].id, 3));
    const results = await Promise.all(promises);
    assert.deepEqual(results.map(({ position, duplicate }) => [position?.offset, duplicate]), [[1, false], [2, true], [3, false]]);
  });

  it("bounds what waits, in requests and in characters", async () => {
    const world = new World({ queueRequests: 2 });
    const kept = [world.client.publish("t", 1), world.client.publish("t", 2)];
    assert.equal(await code(world.client.publish("t", 3)), "queue_full");
    const small = new World({ queueCharacters: 100 });
    kept.push(small.client.publish("t", "x".repeat(200)));
    assert.equal(await code(small.client.publish("t", 1)), "queue_full");
    await Promise.all([world.client.close(), small.client.close()]);
    assert.deepEqual(await Promise.all(kept.map(code)), ["closed", "closed", "closed"]);
  });

  it("fails with what the broker says, and names the id to repeat with", async () => {
    const world = new World();
    const promise = world.client.publish("t", 1);
    const socket = await world.connected();
    const { id } = socket.take("publish");
    const error = { code: "unavailable", text: "the store is away", retryAfterMs: 50 };
    socket.emit({ reply: { id, published: { results: [{ error }] } } });
    await assert.rejects(promise, { code: "unavailable", retryable: true, retryAfterMs: 50, messageId: "id-1" });
  });

  it("fails what has no answer in time", async () => {
    const world = new World({ requestTimeoutMs: 3_000 });
    await world.connected();
    const failing = code(world.client.publish("t", 1));
    const patient = code(world.client.publish("t", 2, { timeoutMs: 9_000 }));
    await world.environment.advance(2_999);
    assert.equal(world.socket.requests.length, 2);
    await world.environment.advance(1);
    assert.equal(await failing, "timeout");
    world.socket.emit(published(1, 1), published(2, 2));
    assert.equal(await patient, "fine");
  });

  it("refuses what no frame can hold, and what has no JSON form", async () => {
    const world = new World();
    await world.connected({ frameBytesMax: 1_000 });
    assert.equal(await code(world.client.publish("t", "x".repeat(2_000))), "too_large");
    assert.equal(await code(world.client.publish("t", undefined)), "bad_request");
    assert.equal(world.socket.requests.length, 0);
  });
});

describe("requests", () => {
  it("reads pages, one after the other", async () => {
    const world = new World();
    const promise = world.client.history("t", { limit: 2 });
    const socket = await world.connected();
    const bounds = { first: { epoch: 1, offset: 1 }, head: { epoch: 1, offset: 3 } };
    const page = (id: number, more: boolean, ...messages: number[]) =>
      socket.emit({ reply: { id, history: { messages: messages.map((offset) => delivery("t", offset).delivery), ...bounds, more } } });
    let asked = socket.take("history");
    assert.deepEqual(asked, { id: asked.id, topic: "t", before: "latest", limit: 2 });
    page(asked.id, true, 3, 2);
    const first = await promise;
    assert.deepEqual([offsets(first.messages), first.head, first.first, first.more], [[3, 2], bounds.head, bounds.first, true]);
    const second = first.next();
    await settle();
    asked = socket.take("history");
    assert.deepEqual(asked.before, { epoch: 1, offset: 2 });
    page(asked.id, false, 1);
    assert.equal(await (await second)?.next(), undefined);
    const forward = world.client.history("t", { from: { time: 5 } });
    await settle();
    asked = socket.take("history");
    assert.deepEqual(asked, { id: asked.id, topic: "t", from: { time: 5 }, limit: 100 });
    page(asked.id, false);
    assert.deepEqual((await forward).messages, []);
  });

  it("enters again on each connection, until it leaves", async () => {
    const world = new World();
    const presence = world.client.presence("room");
    let entered = presence.enter({ name: "Kim" });
    let socket = await world.connected();
    socket.emit({ reply: { id: socket.take("enter").id, entered: {} } });
    await entered;
    socket = await world.reconnected();
    assert.deepEqual(socket.take("enter"), { topic: "room", info: { name: "Kim" }, id: 1 });
    const left = presence.leave();
    await settle();
    socket.emit({ reply: { id: socket.take("leave").id, left: {} } });
    await left;
    socket = await world.reconnected();
    assert.equal(socket.requests.length, 0);
    entered = presence.enter();
    await settle();
    socket.emit(failed(socket.take("enter").id, "forbidden"));
    assert.equal(await code(entered), "forbidden");
  });

  it("knows who is present, who comes and who goes", async () => {
    const world = new World();
    const presence = world.client.presence<string>("room");
    const members = presence.members();
    const changes = new Collected(presence.watch());
    const socket = await world.connected();
    assert.equal(socket.take("subscribe").subscriptions[0].filter, "$presence/room");
    const kim = { session: "s9", subject: "kim", info: "Kim", since: 4 };
    socket.emit({ reply: { id: socket.take("members").id, members: { members: [kim], total: 1 } } });
    assert.deepEqual(await members, { members: [kim], total: 1 });
    const change = (data: unknown) => delivery("$presence/room", undefined, { data });
    socket.emit(change({ join: kim }), change({ rename: kim }), change({ leave: { session: "s9" } }));
    await settle();
    assert.deepEqual(changes.items, [{ kind: "joined", member: kim }, { kind: "left", session: "s9" }]);
  });

  it("measures the way there and back", async () => {
    const world = new World();
    await world.connected();
    const promise = world.client.ping();
    await world.environment.advance(12);
    world.socket.emit({ reply: { id: world.socket.take("ping").id, pong: { time: 77 } } });
    assert.deepEqual(await promise, { roundTripMs: 12, time: 77 });
  });

  it("fails on a reply that is none", async () => {
    const world = new World();
    await world.connected();
    const promise = world.client.publish("t", 1);
    await settle();
    world.socket.emit({ reply: { id: 1, published: { results: 7 } } });
    assert.equal(await code(promise), "internal");
  });
});
