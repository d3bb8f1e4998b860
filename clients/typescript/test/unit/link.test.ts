// Connecting, connecting again, and giving up.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BongsuError, Client } from "../../src/index.js";
import { Collected, World, delivery, failed, settle, subscribed } from "../support/world.js";

const goodbye = (reason: string, reconnect: string, more: object = {}) => ({
  goodbye: { reason, text: "", reconnect, ...more },
});

function waiting(world: World): number {
  const { state } = world.client;
  assert(state.name === "waiting", state.name);
  return state.retryInMs;
}

describe("connecting", () => {
  it("offers the sub-protocol and tells where it stands", async () => {
    const world = new World();
    const opened = world.client.opened();
    const socket = await world.connected({ session: "s7", node: "n2", heartbeatMs: 25_000 });
    assert.deepEqual([socket.url, socket.protocols], ["ws://broker.test/v1/ws", ["bongsu.v1.json"]]);
    assert.deepEqual(await opened, { session: "s7", node: "n2", subject: "", heartbeatMs: 25_000, frameBytesMax: 2_097_152 });
    socket.cut();
    await world.environment.advance(1_000);
    assert.deepEqual(world.states, ["connecting", "open", "waiting", "connecting"]);
    await world.client.close();
    assert.equal(world.client.state.name, "closed");
    assert.equal(world.environment.timers, 0);
  });

  it("refuses an address that is none", () => {
    const WebSocket = class {};
    assert.throws(() => new Client("127.0.0.1:8080", { WebSocket }), TypeError);
    assert.throws(() => new Client("ftp://127.0.0.1", { WebSocket }), TypeError);
  });

  it("takes http for ws", async () => {
    const urls: string[] = [];
    const WebSocket = class {
      constructor(url: string) {
        urls.push(url);
        throw new Error("enough");
      }
    };
    const { environment } = new World();
    const clients = ["http://a.test/x", "https://a.test/x"].map((url) => new Client(url, { WebSocket, environment }));
    await settle();
    await Promise.all(clients.map((client) => client.close()));
    assert.deepEqual(urls, ["ws://a.test/x", "wss://a.test/x"]);
  });

  it("backs off while it fails, and starts over after a connection that lasted", async () => {
    const world = new World();
    world.environment.chance = 1;
    world.hasNetwork = false;
    const pauses = [];
    await settle();
    for (let i = 0; i < 9; i += 1) {
      pauses.push(waiting(world));
      await world.environment.advance(waiting(world));
    }
    assert.deepEqual(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    world.hasNetwork = true;
    await world.environment.advance(30_000);
    await world.connected();
    await world.environment.advance(4_999);
    world.socket.cut();
    assert.equal(waiting(world), 30_000);
    await world.environment.advance(30_000);
    await world.connected();
    await world.environment.advance(5_000);
    world.socket.cut();
    assert.equal(waiting(world), 500);
  });

  it("gives an attempt up that takes too long", async () => {
    const world = new World({ connectTimeoutMs: 3_000 });
    await settle();
    world.socket.open();
    await world.environment.advance(3_000);
    assert.equal(world.client.state.name, "waiting");
    assert.ok(world.socket.isClosed);
  });

  it("connects at once when the network is back, but not before the broker wants it", async () => {
    const world = new World();
    (await world.connected()).cut();
    world.environment.wake();
    await settle();
    assert.equal(world.sockets.length, 2);
    const socket = await world.connected();
    socket.emit(goodbye("overloaded", "backoff", { retryAfterMs: 20_000 }));
    socket.cut(1013);
    await world.environment.advance(19_999);
    world.environment.wake();
    await settle();
    assert.equal(world.sockets.length, 2);
    await world.environment.advance(1);
    world.environment.wake();
    await settle();
    assert.equal(world.sockets.length, 3);
  });

  it("asks for a sign of life when the machine wakes up", async () => {
    const world = new World();
    const socket = await world.connected();
    world.environment.wake();
    socket.emit({ reply: { id: socket.take("ping").id, pong: { time: 1 } } });
    await world.environment.advance(10_000);
    assert.equal(world.client.state.name, "open");
    world.environment.wake();
    await world.environment.advance(5_000);
    assert.equal(world.client.state.name, "waiting");
  });
});

describe("watchdog", () => {
  it("takes a connection for dead on which nothing came for two heartbeats", async () => {
    const world = new World();
    const socket = await world.connected({ heartbeatMs: 10_000 });
    for (let i = 0; i < 5; i += 1) {
      await world.environment.advance(19_999);
      socket.emit({ heartbeat: {} });
    }
    await world.environment.advance(19_999);
    assert.equal(world.client.state.name, "open");
    await world.environment.advance(1);
    assert.equal(world.client.state.name, "waiting");
    assert.ok(socket.closedByClient);
  });

  it("takes a connection for dead on which a subscription has no answer", async () => {
    const world = new World({ requestTimeoutMs: 4_000 });
    world.client.subscribe("t");
    const socket = await world.connected();
    await world.environment.advance(4_000);
    assert.equal(world.client.state.name, "waiting");
    assert.ok(socket.closedByClient);
  });

  it("waits for an answer that stands behind many messages", async () => {
    const world = new World({ requestTimeoutMs: 4_000 });
    world.client.subscribe("t");
    const socket = await world.connected();
    for (let offset = 1; offset <= 5; offset += 1) {
      await world.environment.advance(3_999);
      socket.emit(delivery("t", offset));
    }
    assert.equal(world.client.state.name, "open");
    await world.environment.advance(3_999);
    socket.emit({ heartbeat: {} });
    await world.environment.advance(1);
    assert.equal(world.client.state.name, "waiting");
  });

  it("connects again after what is no frame", async () => {
    for (const data of ["{", "[1]", new ArrayBuffer(2)]) {
      const world = new World();
      (await world.connected()).emitRaw(data);
      assert.equal(world.client.state.name, "waiting");
    }
  });
});

describe("goodbye", () => {
  it("never: gives up, and tells everybody why", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("t"));
    const subscription = world.client.subscribe("u");
    const socket = await world.connected();
    const publish = world.client.publish("t", 1);
    socket.emit(delivery("t", 1), goodbye("forbidden", "never", { text: "not you" }));
    socket.cut(4403);
    await assert.rejects(publish, { code: "forbidden", retryable: false, messageId: "id-1" });
    await assert.rejects(subscription.ready, { code: "forbidden" });
    await settle();
    assert.equal(got.items.length, 1);
    assert.match(String(got.error), /not you/);
    assert.equal(world.client.state.name, "closed");
    await assert.rejects(world.client.publish("t", 1), { code: "forbidden" });
    await assert.rejects(world.client.opened(), { code: "forbidden" });
    await assert.rejects(world.client.subscribe("t").ready, { code: "forbidden" });
    assert.equal(world.environment.timers, 0);
  });

  it("now: comes back within a second, the first time", async () => {
    const world = new World();
    world.environment.chance = 0.25;
    let socket = await world.connected();
    socket.emit(goodbye("going_away", "now"));
    socket.cut(1001);
    assert.equal(waiting(world), 250);
    await world.environment.advance(250);
    socket = await world.connected();
    socket.emit(goodbye("going_away", "now"));
    socket.cut(1001);
    assert.equal(waiting(world), 625);
  });

  it("backoff: waits as long as the broker asks", async () => {
    const world = new World();
    const socket = await world.connected();
    socket.emit(goodbye("overloaded", "backoff", { retryAfterMs: 7_000 }));
    socket.cut(1013);
    assert.equal(waiting(world), 7_500);
  });

  it("follows the close code where there was none", async () => {
    const never = new World();
    (await never.connected()).cut(4403, "forbidden: not you");
    assert.equal(never.client.state.name, "closed");
    const now = new World();
    (await now.connected()).cut(4200);
    assert.equal(waiting(now), 500);
    const backoff = new World();
    (await backoff.connected()).cut(1000);
    assert.equal(waiting(backoff), 375);
  });
});

describe("token", () => {
  /** A world whose client has a new token each time. */
  function tokens(): { world: World; fetched: () => number } {
    let n = 0;
    const world = new World({ token: async () => `token-${++n}` });
    return { world, fetched: () => n };
  }

  async function accepted(world: World): Promise<string> {
    await settle();
    world.socket.welcome();
    const { id, token } = world.socket.take("authenticate");
    assert.equal(world.client.state.name, "connecting");
    world.socket.emit({ reply: { id, authenticated: { subject: "kim" } } });
    await settle();
    return token;
  }

  it("is fetched at each connection, and nothing is asked before it is taken", async () => {
    const { world } = tokens();
    world.client.subscribe("t");
    assert.equal(await accepted(world), "token-1");
    const { state } = world.client;
    assert.equal(state.name === "open" && state.session.subject, "kim");
    world.socket.take("subscribe");
    world.socket.cut();
    await world.environment.advance(1_000);
    assert.equal(await accepted(world), "token-2");
  });

  it("may be a text", async () => {
    const world = new World({ token: "fixed" });
    assert.equal(await accepted(world), "fixed");
  });

  it("that cannot be fetched is fetched again later", async () => {
    let n = 0;
    const world = new World({
      token: () => {
        if (n++ === 0) throw new Error("no login server");
        return "late";
      },
    });
    await settle();
    const { state } = world.client;
    assert.match(String(state.name === "waiting" && state.error), /no login server/);
    await world.environment.advance(1_000);
    assert.equal(await accepted(world), "late");
  });

  it("that is refused is fetched once more, then the client gives up", async () => {
    const { world, fetched } = tokens();
    for (let i = 0; i < 2; i += 1) {
      await settle();
      world.socket.welcome();
      world.socket.emit(failed(world.socket.take("authenticate").id, "unauthenticated"));
      await world.environment.advance(1_000);
    }
    assert.deepEqual([world.client.state.name, fetched()], ["closed", 2]);
  });

  it("is not repeated if it was a text and refused", async () => {
    const world = new World({ token: "fixed" });
    await settle();
    world.socket.welcome();
    world.socket.emit(failed(world.socket.take("authenticate").id, "unauthenticated"));
    assert.equal(world.client.state.name, "closed");
  });

  it("that ran out is fetched again: after a goodbye", async () => {
    const { world } = tokens();
    await accepted(world);
    world.socket.emit(goodbye("unauthenticated", "never"));
    world.socket.cut(4401);
    await world.environment.advance(1_000);
    assert.equal(await accepted(world), "token-2");
    assert.equal(world.client.state.name, "open");
  });

  it("that ran out is fetched again: for a request, once for all that come together", async () => {
    const { world, fetched } = tokens();
    await accepted(world);
    const promises = [world.client.publish("t", 1), world.client.publish("t", 2)];
    await settle();
    const ids = [world.socket.take("publish").id, world.socket.take("publish").id];
    world.socket.emit(...ids.map((id) => failed(id, "unauthenticated")));
    await settle();
    world.socket.emit({ reply: { id: world.socket.take("authenticate").id, authenticated: { subject: "kim" } } });
    await settle();
    assert.equal(fetched(), 2);
    for (const promise of promises) {
      world.socket.emit(failed(world.socket.take("publish").id, "unauthenticated"));
      await assert.rejects(promise, { code: "unauthenticated" });
    }
    assert.equal(world.client.state.name, "open");
  });

  it("that ran out is fetched again: for a subscription", async () => {
    const { world } = tokens();
    const subscription = world.client.subscribe("t");
    await accepted(world);
    const error = { code: "unauthenticated", text: "ran out" };
    world.socket.emit(subscribed(world.socket.take("subscribe").id, { error }));
    await settle();
    world.socket.emit({ reply: { id: world.socket.take("authenticate").id, authenticated: { subject: "kim" } } });
    await settle();
    world.socket.take("unsubscribe");
    world.socket.emit(subscribed(world.socket.take("subscribe").id, { filter: "t", since: 4 }));
    await subscription.ready;
  });

  it("is shown anew when the broker says that it ends soon", async () => {
    const { world } = tokens();
    await accepted(world);
    world.socket.emit({ tokenExpiring: { expiresAt: 1_735_732_800_000, inMs: 60_000 } });
    world.socket.emit({ tokenExpiring: { expiresAt: 1_735_732_800_000, inMs: 59_000 } });
    await settle();
    const { id, token } = world.socket.take("authenticate");
    assert.equal(token, "token-2");
    world.socket.emit({ reply: { id, authenticated: {} } });
    await settle();
    assert.equal(world.client.state.name, "open");
  });

  it("is fetched again when the application wants it", async () => {
    const { world } = tokens();
    await assert.rejects(world.client.refreshToken(), BongsuError);
    await accepted(world);
    const refreshed = world.client.refreshToken();
    await settle();
    const { id, token } = world.socket.take("authenticate");
    assert.equal(token, "token-2");
    world.socket.emit({ reply: { id, authenticated: {} } });
    await refreshed;
  });
});

describe("subscriptions that fail", () => {
  it("end with the broker's error if it is final", async () => {
    const world = new World();
    const subscription = world.client.subscribe("t");
    const got = new Collected(subscription);
    const fine = world.client.subscribe("u");
    const socket = await world.connected();
    socket.emit(subscribed(socket.take("subscribe").id, { error: { code: "forbidden", text: "no" } }, { filter: "u", since: 1 }));
    await assert.rejects(subscription.ready, { code: "forbidden" });
    await fine.ready;
    await settle();
    assert.equal((got.error as BongsuError).code, "forbidden");
    socket.emit({ unsubscribed: { filter: "u", error: { code: "forbidden", text: "not any more" } } });
    assert.equal(((await fine[Symbol.asyncIterator]().next().catch((error: unknown) => error)) as BongsuError).code, "forbidden");
  });

  it("are made again after a while if the error may pass", async () => {
    const world = new World();
    world.environment.chance = 0;
    const subscription = world.client.subscribe("t");
    const socket = await world.connected();
    const error = { code: "unavailable", text: "the store is away", retryAfterMs: 300 };
    socket.emit(subscribed(socket.take("subscribe").id, { error }));
    await world.environment.advance(299);
    assert.equal(socket.requests.length, 0);
    await world.environment.advance(1);
    socket.take("unsubscribe");
    socket.emit(subscribed(socket.take("subscribe").id, { filter: "t", since: 1 }));
    await subscription.ready;
  });

  it("end where more topics match than can be followed", async () => {
    const world = new World();
    const subscription = world.client.subscribe("#", { bufferMessages: 20_000 });
    const got = new Collected(subscription);
    const socket = await world.connected();
    socket.emit(...Array.from({ length: 10_001 }, (_, i) => delivery(`t/${i}`, 1)));
    await settle();
    assert.equal(got.items.length, 10_000);
    assert.equal((got.error as BongsuError).code, "too_many");
  });
});

describe("ending", () => {
  it("a loop that is left ends its subscription", async () => {
    const world = new World();
    const subscription = world.client.subscribe("t");
    const socket = await world.connected();
    socket.take("subscribe");
    socket.emit(delivery("t", 1), delivery("t", 2));
    for await (const message of subscription) {
      assert.equal(message.offset, 1);
      break;
    }
    await settle();
    assert.deepEqual(socket.take("unsubscribe").filters, ["t"]);
    assert.equal(subscription.buffered, 0);
    await assert.rejects(async () => {
      for await (const _ of subscription) assert.fail();
    }, { code: "bad_request" });
  });

  it("one of two subscriptions with a filter leaves the other", async () => {
    const world = new World();
    const one = world.client.subscribe("t");
    const other = new Collected(world.client.subscribe("t"));
    const socket = await world.connected();
    socket.take("subscribe");
    one.close();
    await settle();
    assert.equal(socket.requests.length, 0);
    socket.emit(delivery("t", 1));
    await settle();
    assert.equal(other.items.length, 1);
  });

  it("close waits for answers that are under way", async () => {
    const world = new World();
    const got = new Collected(world.client.subscribe("t"));
    const socket = await world.connected();
    const publish = world.client.publish("t", 1);
    const closed = world.client.close();
    await settle();
    assert.equal(got.isDone && got.error, undefined);
    await assert.rejects(world.client.publish("t", 2), { code: "closed" });
    assert.equal(world.client.state.name, "open");
    const publishRequest = socket.requests.find((request) => "publish" in request);
    socket.emit({ reply: { id: publishRequest.id, published: { results: [{ published: {} }] } } });
    await publish;
    await closed;
    assert.deepEqual(socket.closedByClient, { code: 1000 });
    await world.client.close();
  });

  it("close fails what has no connection to wait for", async () => {
    const world = new World();
    const publish = world.client.publish("t", 1);
    const rejected = assert.rejects(publish, { code: "closed" });
    await world.client.close();
    await rejected;
    assert.equal(world.environment.timers, 0);
  });

  it("a listener that throws disturbs nobody, and its error is thrown on its own", async (t) => {
    const world = new World();
    const mocked = t.mock.method(globalThis, "queueMicrotask", () => {});
    const stop = world.client.on("state", () => {
      throw new Error("mine");
    });
    await settle();
    mocked.mock.restore();
    stop();
    const thrown = mocked.mock.calls.map((call) => call.arguments[0]);
    assert.throws(() => thrown[0]?.(), /mine/);
    await world.connected();
    assert.equal(world.client.state.name, "open");
  });
});
