// One random life of a client: a broker as the protocol describes it, a network that breaks, logs that are trimmed and made
// anew, frames that go missing, an application that reads when it likes. Fails where a promise of the client does not hold.

import assert from "node:assert/strict";
import type * as Package from "../../src/index.js";
import type { Item, Published, Subscription } from "../../src/index.js";
import { matches } from "../../src/filter.js";
import { ModelBroker, type ModelSession } from "./model.js";
import { World, settle, type FakeSocket, type Wire } from "./world.js";

/** A generator of numbers below 1 that gives the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What one subscription's reader checks of everything that it gets. */
class Reader {
  readonly #loop: AsyncIterator<Item>;
  #next: Promise<IteratorResult<Item>> | undefined;
  #arrived: IteratorResult<Item> | undefined;
  readonly places = new Map<string, { epoch: number; offset: number }>();
  /** By topic: the first offset that came or was told as lost; 0 after a reset. */
  readonly starts = new Map<string, number>();
  /** The broker's time when it had made the subscription. */
  readyAt = Infinity;
  /** Topics whose log was made anew and of which nothing came since. */
  readonly #fresh = new Set<string>();
  /** By topic without history: the newest number that came, and whether a loss was told since. */
  readonly #live = new Map<string, { newest: number; told: number | undefined }>();
  n = 0;

  constructor(
    readonly subscription: Subscription,
    readonly broker: ModelBroker,
    /** Logs that were, by epoch: what of them was really trimmed. */
    readonly trimmed: Map<number, number>,
    /** It was the first one, so no other decided where its topics are read from. */
    readonly isFirst: boolean,
  ) {
    this.#loop = subscription.items();
    subscription.ready.then(
      () => (this.readyAt = broker.time),
      () => {},
    );
  }

  /** Takes one item, if there is one. */
  async read(): Promise<boolean> {
    this.#next ??= this.#loop.next().then((result) => (this.#arrived = result));
    await settle();
    if (this.#arrived === undefined) return false;
    const { done, value } = this.#arrived;
    this.#next = undefined;
    this.#arrived = undefined;
    assert(!done, "the loop has ended");
    this.#check(value);
    this.n += 1;
    return true;
  }

  #check(item: Item): void {
    const at = `${item.topic} of ${this.subscription.filter}`;
    assert.ok(matches(this.subscription.filter, item.topic), at);
    const place = this.places.get(item.topic);
    if (!this.starts.has(item.topic)) {
      this.starts.set(item.topic, item.kind === "message" ? (item.offset ?? 0) : item.kind === "lost" ? (item.range?.from ?? 0) : 0);
    }
    if (item.kind === "reset") {
      assert.ok(place === undefined || item.epoch > place.epoch, `${at}: a reset to epoch ${item.epoch}`);
      this.places.set(item.topic, { epoch: item.epoch, offset: 0 });
      this.#fresh.add(item.topic);
    } else if (item.kind === "lost" && item.range === undefined) {
      const live = this.#live.get(item.topic);
      if (live !== undefined) live.told = item.count === undefined || live.told === undefined ? undefined : live.told + item.count;
    } else if (item.kind === "lost") {
      const { epoch, from, until } = item.range as { epoch: number; from: number; until: number };
      assert.equal(item.count, until - from + 1, at);
      assert.ok(until <= (this.trimmed.get(epoch) ?? 0), `${at}: ${from} to ${until} are told as lost, and are not`);
      if (place !== undefined) assert.deepEqual([epoch, from], [place.epoch, place.offset + 1], `${at}: where the loss begins`);
      this.places.set(item.topic, { epoch, offset: until });
      this.#fresh.delete(item.topic);
    } else if (item.position === undefined) {
      this.#checkLive(at, item.topic, item.data as number);
    } else {
      const { epoch, offset } = item.position;
      if (place !== undefined && place.epoch !== epoch) assert.deepEqual([place.epoch, offset], [0, 1], `${at}: an untold epoch`);
      else if (place !== undefined && !this.#fresh.has(item.topic)) assert.equal(offset, place.offset + 1, `${at}: the next offset`);
      this.places.set(item.topic, { epoch, offset });
      this.#fresh.delete(item.topic);
    }
  }

  #checkLive(at: string, topic: string, number: number): void {
    const live = this.#live.get(topic);
    if (live !== undefined) {
      assert.ok(number > live.newest, `${at}: message ${number} after ${live.newest}`);
      const missing = number - live.newest - 1;
      if (live.told !== undefined) assert.equal(live.told, missing, `${at}: told and missing before ${number}`);
    }
    this.#live.set(topic, { newest: number, told: 0 });
  }
}

/** How many things happen in a life, before there is peace. */
const STEPS = 220;

export async function runModel(seed: number, { Client }: typeof Package): Promise<void> {
  const random = seeded(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;

  const broker = new ModelBroker();
  const world = new World({ requestTimeoutMs: 10_000_000, connectTimeoutMs: 10_000_000, reconnectFirstMs: 100 }, Client);
  world.environment.random = random;
  const trimmed = new Map<number, number>();
  const topics = ["a/1", "a/2", "b/1", "b/1/x"];
  const liveNumbers = new Map([["live/1", 0]]);
  const readers: Reader[] = [];
  const published: { topic: string; id: string; result?: Published }[] = [];
  let served: { socket: FakeSocket; session: ModelSession } | undefined;
  let nRequests = 0;

  const serve = (): void => {
    const socket = world.sockets.at(-1);
    if (socket === undefined || socket === served?.socket) return;
    served?.session.end();
    const session = broker.connect();
    served = { socket, session };
    socket.onRequest = (request) => {
      nRequests += 1;
      session.handle(request);
    };
    socket.open();
  };
  const cut = (): void => {
    served?.session.end();
    served?.socket.cut();
  };
  /** Lets up to `n` events of the broker arrive. */
  const deliver = (n: number): boolean => {
    if (served === undefined || served.socket.isClosed) return false;
    const { session, socket } = served;
    for (const topic of session.topics) {
      if (n === Infinity || random() < 0.7) session.read(topic, 1 + below(5));
    }
    const events = session.outgoing.splice(0, n);
    if (events.length > 0) socket.emit(...events);
    return events.length > 0;
  };
  const subscribe = (filter: string, from: Package.Start): void => {
    const subscription = world.client.subscribe(filter, { from, bufferMessages: 1 + below(12) });
    readers.push(new Reader(subscription, broker, trimmed, world.client.state.name !== "open" && readers.length === 0));
  };
  const publish = (): void => {
    if (random() < 0.2) {
      const number = (liveNumbers.get("live/1") as number) + 1;
      liveNumbers.set("live/1", number);
      broker.publish({ topic: "live/1", data: number });
    } else {
      broker.publish({ topic: pick(topics), data: 0 });
    }
  };

  const filters: [string, Package.Start][] = [
    ["a/1", "earliest"],
    ["a/+", { last: 3 }],
    ["#", "latest"],
    ["b/#", "earliest"],
    ["live/1", "latest"],
    ["a/1", { last: 1 }],
    ["live/#", "latest"],
    ["b/1/x", "latest"],
  ];
  for (let n = 1 + below(3); n > 0; n -= 1) subscribe(...pick(filters));

  const actions: [number, () => void | Promise<void>][] = [
    [12, publish],
    [14, () => void deliver(1 + below(6))],
    [14, async () => void (await pick(readers)?.read())],
    [4, () => world.environment.advance(below(400))],
    [6, serve],
    [2, cut],
    [1, () => void topics.push(`${pick(["a", "b"])}/${topics.length}`)],
    [1, () => subscribe(...pick(filters))],
    [1, () => {
      if (readers.length > 1) readers.splice(below(readers.length), 1)[0]?.subscription.close();
    }],
    [1, () => {
      const log = broker.logs.get(pick(topics));
      log?.trim(below(4));
      if (log !== undefined) trimmed.set(log.epoch, log.first - 1);
    }],
    [1, () => {
      if (random() < 0.4) broker.reset(pick(topics));
    }],
    // A broker that forgets to send a message, or sends one twice. (That a topic's first message is missing cannot be seen.)
    [1, () => {
      const outgoing = served?.session.outgoing ?? [];
      const at = outgoing.findIndex((event: Wire) => event.delivery?.offset > 1);
      if (at >= 0) outgoing.splice(at, random() < 0.5 ? 1 : 0, ...(random() < 0.5 ? [outgoing[at]] : []));
    }],
    [2, () => {
      const entry: (typeof published)[number] = { topic: pick(topics), id: "" };
      entry.id = `id-${published.push(entry)}`;
      void world.client.publish(entry.topic, entry.id).then((result) => (entry.result = result));
    }],
  ];
  const weights = actions.reduce((sum, [weight]) => sum + weight, 0);
  for (let step = 0; step < STEPS; step += 1) {
    let at = random() * weights;
    const [, act] = actions.find(([weight]) => (at -= weight) < 0) as (typeof actions)[number];
    await act();
    await settle();
  }

  // Peace: a network, nothing new, an application that reads. All must arrive, and then all must be quiet.
  // Only what comes next shows that a message before it is missing, so each topic gets one more.
  for (const topic of broker.logs.keys()) broker.publish({ topic, data: 0 });
  let quiet = 0;
  for (let step = 0; quiet < 4; step += 1) {
    assert.ok(step < 1_500, "it never ends");
    await world.environment.advance(500);
    serve();
    let busy = deliver(Infinity) || world.client.state.name !== "open";
    for (const reader of readers) busy = (await reader.read()) || busy;
    quiet = busy ? 0 : quiet + 1;
  }
  const before = nRequests;
  await world.environment.advance(60_000);
  assert.equal(nRequests, before, "requests though nothing happens");
  for (const reader of readers) {
    for (const [topic, place] of reader.places) {
      const log = broker.logs.get(topic);
      // A log made anew of which nothing was published yet is not told of before.
      if (log === undefined || log.head < log.first) continue;
      assert.deepEqual(place, { epoch: log.epoch, offset: log.head }, `${topic} of ${reader.subscription.filter} at the end`);
    }
    // What was made after the subscription was, it reads from the beginning, whatever happened in between.
    for (const [topic, log] of broker.logs) {
      if (!log.isFirst || log.since <= reader.readyAt || log.head < log.first) continue;
      if (!matches(reader.subscription.filter, topic)) continue;
      const start = reader.starts.get(topic);
      assert.ok(start !== undefined && start - 1 <= (trimmed.get(log.epoch) ?? 0), `${topic} of ${reader.subscription.filter} starts at ${start}`);
    }
    if (reader.isFirst && reader.subscription.from === "earliest") {
      for (const [topic, log] of broker.logs) {
        if (!matches(reader.subscription.filter, topic) || log.head < log.first) continue;
        assert.ok(reader.places.has(topic), `${topic} never came to ${reader.subscription.filter}`);
      }
    }
  }
  for (const { topic, id, result } of published) {
    assert.ok(result, `publish ${id} has no answer`);
    assert.equal(result.id, id);
    const log = broker.logs.get(topic);
    if (log?.epoch !== result.position?.epoch) continue;
    const times = [...(log?.messages.values() ?? [])].filter(({ wire }) => wire.data === id).length;
    assert.ok(times <= 1, `${id} is in the log ${times} times`);
    assert.equal(log?.offsetsById.get(id), result.position?.offset);
  }
  await world.client.close();
  assert.equal(world.environment.timers, 0, "timers are left");
}
