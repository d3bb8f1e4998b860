// A world for the client in which time stands still until the test moves it, and the broker says what the test says.

import assert from "node:assert/strict";
import type { Environment } from "../../src/environment.js";
import { Client, type ClientOptions } from "../../src/index.js";

/** Everything that is ready to run has run. */
export async function settle(): Promise<void> {
  // Each turn of the event loop drains all microtasks; two of them cover what one schedules for the next.
  for (let i = 0; i < 2; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Time that only the test moves, and chance that it chooses. */
export class VirtualEnvironment implements Environment {
  nowMs = 0;
  /** What `random` returns. */
  chance = 0.5;
  #timers = new Map<number, { atMs: number; run: () => void }>();
  #nextTimer = 1;
  #nextId = 1;
  #wakers = new Set<() => void>();

  now(): number {
    return this.nowMs;
  }
  setTimer(delayMs: number, run: () => void): number {
    const timer = this.#nextTimer++;
    this.#timers.set(timer, { atMs: this.nowMs + delayMs, run });
    return timer;
  }
  clearTimer(timer: unknown): void {
    this.#timers.delete(timer as number);
  }
  random(): number {
    return this.chance;
  }
  newMessageId(): string {
    return `id-${this.#nextId++}`;
  }
  onWake(wake: () => void): () => void {
    this.#wakers.add(wake);
    return () => this.#wakers.delete(wake);
  }

  wake(): void {
    for (const wake of this.#wakers) wake();
  }

  /** Timers that were set and not run. */
  get timers(): number {
    return this.#timers.size;
  }

  /** Moves time, running what is due in order. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { atMs }]) => atMs <= untilMs).sort((a, b) => a[1].atMs - b[1].atMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due[0]);
      this.nowMs = Math.max(this.nowMs, due[1].atMs);
      due[1].run();
      await settle();
    }
    this.nowMs = untilMs;
  }
}

/** Requests and events as they are on the wire. */
export type Wire = any;

/** The broker's end of a socket. */
export class FakeSocket {
  /** Requests that the client sent and the test did not take. */
  readonly requests: Wire[] = [];
  /** How many frames the client sent. */
  frames = 0;
  closedByClient: { code: number | undefined } | undefined;
  #listeners = new Map<string, ((event: unknown) => void)[]>();
  #isClosed = false;
  /** Called for each request; the test's own broker. */
  onRequest: ((request: Wire) => void) | undefined;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener as (event: unknown) => void]);
  }
  send(data: string): void {
    assert(!this.#isClosed, "sent on a closed socket");
    this.frames += 1;
    const frame: unknown = JSON.parse(data);
    for (const request of Array.isArray(frame) ? frame : [frame]) {
      if (this.onRequest) this.onRequest(request);
      else this.requests.push(request);
    }
  }
  close(code?: number): void {
    this.closedByClient ??= { code };
    this.#isClosed = true;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** The socket opens, nothing is said. */
  open(): void {
    this.#dispatch("open", {});
  }
  /** The broker sends events, in one frame. */
  emit(...events: Wire[]): void {
    if (this.#isClosed) return;
    this.#dispatch("message", { data: JSON.stringify(events.length === 1 ? events[0] : events) });
  }
  /** The broker sends anything. */
  emitRaw(data: unknown): void {
    this.#dispatch("message", { data });
  }
  /** The connection ends from the other side. */
  cut(code = 1006, reason = ""): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#dispatch("close", { code, reason });
  }
  /** The socket opens and the broker says welcome. */
  welcome(more: Wire = {}): void {
    this.open();
    this.emit(welcome(more));
  }
  /** The oldest request that was not taken, which must be of this kind. */
  take(kind: string): Wire {
    const request = this.requests.shift();
    assert(request, `no request, a ${kind} was awaited`);
    assert.ok(kind in request, `a ${kind} was awaited, not ${JSON.stringify(request)}`);
    return { ...request[kind], id: request.id };
  }

  #dispatch(type: string, event: unknown): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }
}

/** A client in its world. */
export class World {
  readonly environment = new VirtualEnvironment();
  readonly sockets: FakeSocket[] = [];
  /** The next sockets fail to be made. */
  hasNetwork = true;
  readonly client: Client;
  readonly states: string[] = [];

  constructor(options: ClientOptions = {}, ClientClass: typeof Client = Client) {
    const world = this;
    this.client = new ClientClass("ws://broker.test/v1/ws", {
      WebSocket: class extends FakeSocket {
        constructor(url: string, protocols: string[]) {
          super(url, protocols);
          if (!world.hasNetwork) throw new Error("no network");
          world.sockets.push(this);
        }
      },
      environment: this.environment,
      ...options,
    });
    this.client.on("state", ({ name }) => this.states.push(name));
  }

  /** The newest socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert(socket, "the client has not connected");
    return socket;
  }

  /** The client is connected. */
  async connected(more: Wire = {}): Promise<FakeSocket> {
    await settle();
    this.socket.welcome(more);
    await settle();
    return this.socket;
  }

  /** The connection breaks, and the client is connected again. */
  async reconnected(): Promise<FakeSocket> {
    this.socket.cut();
    await this.environment.advance(this.client.state.name === "waiting" ? this.client.state.retryInMs : 0);
    return await this.connected();
  }
}

export function welcome(more: Wire = {}): Wire {
  return {
    welcome: { session: "s1", node: "n1", subject: "", time: 1_000, heartbeatMs: 0, frameBytesMax: 2_097_152, ...more },
  };
}

export function delivery(topic: string, offset: number | undefined, more: Wire = {}): Wire {
  const position = offset === undefined ? {} : { epoch: 1, offset };
  return { delivery: { topic, ...position, time: 1_000, publisher: "", data: offset ?? null, type: "application/json", ...more } };
}

export function subscribed(id: number, ...results: Wire[]): Wire {
  return { reply: { id, subscribed: { results: results.map((result) => ("error" in result ? result : { subscribed: result })) } } };
}

export function published(id: number, offset: number, more: Wire = {}): Wire {
  return { reply: { id, published: { results: [{ published: { position: { epoch: 1, offset }, duplicate: false, ...more } }] } } };
}

export function failed(id: number, code: string, more: Wire = {}): Wire {
  return { reply: { id, error: { code, text: "because", ...more } } };
}

/** What a loop over a subscription gets, as it comes. */
export class Collected<T> {
  readonly items: T[] = [];
  isDone = false;
  error: unknown;

  constructor(source: AsyncIterable<T>) {
    void this.#run(source);
  }

  async #run(source: AsyncIterable<T>): Promise<void> {
    try {
      for await (const item of source) this.items.push(item);
    } catch (error) {
      this.error = error;
    }
    this.isDone = true;
  }
}
