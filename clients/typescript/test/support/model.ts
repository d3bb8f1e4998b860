// A broker as the protocol describes it, in memory and without time: the oracle of the model test and the stand-in for a
// real one. It does what docs/protocol.md says and nothing more; bounds, rights and speed are left out.

import { isPattern, matches } from "../../src/filter.js";
import type { Wire } from "./world.js";

interface Stored {
  readonly offset: number;
  readonly time: number;
  readonly wire: Wire;
}

/** One topic's log. */
export class ModelLog {
  first = 1;
  head = 0;
  readonly messages = new Map<number, Stored>();
  readonly offsetsById = new Map<string, number>();

  constructor(
    readonly epoch: number,
    /** When it was made. */
    readonly since: number,
    /** The topic had no log before. */
    readonly isFirst: boolean,
  ) {}

  /** Forgets what is older than the newest `keep` messages. */
  trim(keep: number): void {
    const first = Math.max(this.first, this.head - keep + 1);
    for (let offset = this.first; offset < first; offset += 1) this.messages.delete(offset);
    this.first = first;
  }

  /** The place before the first message of this time or later. */
  beforeTime(time: number): number {
    for (let offset = this.first; offset <= this.head; offset += 1) {
      if ((this.messages.get(offset) as Stored).time >= time) return offset - 1;
    }
    return this.head;
  }
}

export class ModelBroker {
  /** Grows with everything that happens, so that no two things happen at the same time. */
  time = 1_000;
  readonly logs = new Map<string, ModelLog>();
  readonly sessions = new Set<ModelSession>();
  #epoch = 0;
  #nextSession = 1;
  /** Whether the time is the clock's. */
  clock: (() => number) | undefined;

  connect(): ModelSession {
    const session = new ModelSession(this, `s${this.#nextSession++}`);
    this.sessions.add(session);
    return session;
  }

  now(): number {
    this.time = this.clock === undefined ? this.time + 1 : Math.max(this.time + 1, this.clock());
    return this.time;
  }

  isLive(topic: string): boolean {
    return topic.startsWith("live") || topic.startsWith("$");
  }

  publish(message: Wire): Wire {
    const { topic, id, expect, headers } = message;
    const time = this.now();
    const wire: Wire = { topic, time };
    if ("data" in message) Object.assign(wire, { data: message.data, type: message.type ?? "application/json" });
    else if ("text" in message) Object.assign(wire, { text: message.text, type: message.type ?? "text/plain; charset=utf-8" });
    else Object.assign(wire, { bytes: message.bytes }, message.type === undefined ? {} : { type: message.type });
    if (headers !== undefined) wire.headers = headers;
    if (id) wire.id = id;
    if (this.isLive(topic)) {
      for (const session of this.sessions) session.offerLive(wire);
      return { published: {} };
    }
    const log = this.logs.get(topic) ?? this.#newLog(topic);
    const before = id === undefined ? undefined : log.offsetsById.get(id);
    if (before !== undefined) return { published: { position: { epoch: log.epoch, offset: before }, duplicate: true } };
    if (expect !== undefined && expect !== log.head) {
      return { error: { code: "conflict", text: `the newest offset is ${log.head}`, head: { epoch: log.epoch, offset: log.head } } };
    }
    log.head += 1;
    log.messages.set(log.head, { offset: log.head, time, wire: { ...wire, epoch: log.epoch, offset: log.head } });
    if (id) log.offsetsById.set(id, log.head);
    return { published: { position: { epoch: log.epoch, offset: log.head } } };
  }

  /** Makes the topic's log anew. */
  reset(topic: string): void {
    const log = new ModelLog(++this.#epoch, this.now(), !this.logs.has(topic));
    this.logs.set(topic, log);
    for (const session of this.sessions) session.onNewLog(topic, log);
  }

  members(topic: string): Wire[] {
    return [...this.sessions].flatMap((session) => session.memberships.get(topic) ?? []);
  }

  #newLog(topic: string): ModelLog {
    this.reset(topic);
    return this.logs.get(topic) as ModelLog;
  }
}

export class ModelSession {
  /** What goes to the client, in order. */
  readonly outgoing: Wire[] = [];
  readonly memberships = new Map<string, Wire>();
  readonly #filters = new Set<string>();
  /** Where each topic is read: the offset that comes next. */
  readonly #reading = new Map<string, { epoch: number; next: number }>();

  constructor(
    readonly broker: ModelBroker,
    readonly name: string,
  ) {
    const time = broker.now();
    this.outgoing.push({ welcome: { session: name, node: "model", time, heartbeatMs: 25_000, frameBytesMax: 2_097_152 } });
  }

  end(): void {
    this.broker.sessions.delete(this);
    for (const topic of [...this.memberships.keys()]) this.#leave(topic);
  }

  handle(request: Wire): void {
    const reply = (content: Wire) => this.outgoing.push({ reply: { id: request.id, ...content } });
    if (request.subscribe) reply({ subscribed: { results: request.subscribe.subscriptions.map((one: Wire) => this.#subscribe(one)) } });
    else if (request.unsubscribe) {
      this.#unsubscribe(request.unsubscribe.filters);
      reply({ unsubscribed: {} });
    } else if (request.publish) reply({ published: { results: request.publish.messages.map((one: Wire) => this.broker.publish(one)) } });
    else if (request.history) reply({ history: this.#page(request.history) });
    else if (request.enter) {
      this.#enter(request.enter);
      reply({ entered: {} });
    } else if (request.leave) {
      this.#leave(request.leave.topic);
      reply({ left: {} });
    } else if (request.members) {
      const members = this.broker.members(request.members.topic);
      reply({ members: { members, total: members.length } });
    } else if (request.authenticate) reply({ authenticated: { subject: request.authenticate.token } });
    else if (request.ping) reply({ pong: { time: this.broker.now() } });
    else reply({ error: { code: "unsupported", text: "no such command" } });
  }

  /** Reads up to `budget` messages of a topic. */
  read(topic: string, budget = Infinity): boolean {
    const place = this.#reading.get(topic);
    const log = this.broker.logs.get(topic);
    if (place === undefined || log === undefined || place.epoch !== log.epoch) return false;
    let hasRead = false;
    for (let n = 0; n < budget && place.next <= log.head; n += 1) {
      hasRead = true;
      if (place.next < log.first) {
        const [from, until] = [place.next, log.first - 1];
        this.outgoing.push({ lost: { topic, epoch: log.epoch, from, until, count: until - from + 1 } });
        place.next = log.first;
      } else {
        this.outgoing.push({ delivery: (log.messages.get(place.next) as Stored).wire });
        place.next += 1;
      }
    }
    return hasRead;
  }

  readAll(): void {
    for (const topic of this.#reading.keys()) this.read(topic);
  }

  get topics(): string[] {
    return [...this.#reading.keys()];
  }

  offerLive(wire: Wire): void {
    if (this.#matches(wire.topic)) this.outgoing.push({ delivery: wire });
  }

  onNewLog(topic: string, log: ModelLog): void {
    const place = this.#reading.get(topic);
    if (place !== undefined && place.epoch > 0) this.outgoing.push({ reset: { topic, epoch: log.epoch } });
    if (place !== undefined || this.#matches(topic)) this.#reading.set(topic, { epoch: log.epoch, next: log.first });
  }

  #matches(topic: string): boolean {
    return [...this.#filters].some((filter) => matches(filter, topic));
  }

  #subscribe({ filter, from, seen = [] }: Wire): Wire {
    const since = this.broker.now();
    if (this.#filters.has(filter)) return { subscribed: { filter, since } };
    this.#filters.add(filter);
    const positions: Wire[] = [];
    const named = new Map<string, Wire>(seen.map((one: Wire) => [one.topic, one.position]));
    const topics = isPattern(filter) ? [...this.broker.logs.keys()].filter((topic) => matches(filter, topic)) : [filter];
    for (const topic of topics) {
      if (this.broker.isLive(topic)) continue;
      const start = named.has(topic) ? { after: named.get(topic) } : (from ?? "latest");
      // A topic that is read already is read on from where it is.
      const place = this.#reading.get(topic) ?? this.#start(topic, start);
      this.#reading.set(topic, place);
      if (isPattern(filter) && start === "latest") continue;
      positions.push({ topic, position: { epoch: place.epoch, offset: place.next - 1 } });
    }
    return { subscribed: { filter, since, positions } };
  }

  #start(topic: string, from: Wire): { epoch: number; next: number } {
    const log = this.broker.logs.get(topic);
    if (log === undefined) return { epoch: 0, next: 1 };
    const { epoch, first, head } = log;
    if (from === "latest") return { epoch, next: head + 1 };
    if (from === "earliest") return { epoch, next: first };
    if ("last" in from) return { epoch, next: Math.max(first, head - from.last + 1) };
    if ("time" in from) return { epoch, next: log.beforeTime(from.time) + 1 };
    if (from.after.epoch === epoch && from.after.offset <= head) return { epoch, next: from.after.offset + 1 };
    // The place before a topic's first message is also one in its first log.
    if (from.after.epoch > 0) this.outgoing.push({ reset: { topic, epoch } });
    return { epoch, next: first };
  }

  #unsubscribe(filters: string[]): void {
    for (const filter of filters) this.#filters.delete(filter);
    for (const topic of this.#reading.keys()) {
      if (!this.#matches(topic)) this.#reading.delete(topic);
    }
  }

  #page({ topic, from, before, limit = 100 }: Wire): Wire {
    const log = this.broker.logs.get(topic);
    if (log === undefined) return { messages: [], first: { epoch: 0, offset: 1 }, head: { epoch: 0, offset: 0 }, more: false };
    const all = [...log.messages.values()];
    const last = before === "latest" || before === undefined ? log.head : before.offset - 1;
    const asked =
      from === undefined
        ? all.filter(({ offset }) => offset <= last).reverse()
        : all.filter(({ offset }) => offset >= this.#start(topic, from).next);
    return {
      messages: asked.slice(0, limit).map(({ wire }) => wire),
      first: { epoch: log.epoch, offset: log.first },
      head: { epoch: log.epoch, offset: log.head },
      more: asked.length > limit,
    };
  }

  #enter({ topic, info }: Wire): void {
    const member = { session: this.name, info, since: this.broker.now() };
    this.memberships.set(topic, member);
    this.broker.publish({ topic: `$presence/${topic}`, data: { join: member } });
  }

  #leave(topic: string): void {
    const member = this.memberships.get(topic);
    this.memberships.delete(topic);
    if (member !== undefined) this.broker.publish({ topic: `$presence/${topic}`, data: { leave: { session: this.name } } });
  }
}
