// The client: what an application talks to.

import type { BackoffOptions } from "./backoff.js";
import type { Connection, WebSocketConstructor } from "./connection.js";
import { Emitter } from "./emitter.js";
import { realEnvironment, type Environment } from "./environment.js";
import { BongsuError } from "./error.js";
import { Link, type State, type TokenSource } from "./link.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { Reader } from "./reader.js";
import type { SubscribeOptions, Subscription } from "./subscription.js";
import type { Members, Page, Position, Published, Session, Start } from "./types.js";
import {
  decodeMembers,
  decodePage,
  decodePublished,
  decodeResults,
  encodeHistory,
  encodeMessage,
  object,
  type Command,
  type PageRange,
  type Reply,
  type WirePage,
} from "./wire.js";

/** How a client behaves; everything has a default. */
export interface ClientOptions {
  /** A token, or what fetches one: asked at each connection, and when the broker wants a new one. Default: anonymous. */
  readonly token?: TokenSource;
  /** The WebSocket to use. Default: the global one, of browsers and of Node.js from version 22 on. */
  readonly WebSocket?: WebSocketConstructor;
  /** Milliseconds until a connection must be open, its token fetched and accepted. Default: 10,000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds that a request may wait for its answer, time without a connection included. Default: 15,000. */
  readonly requestTimeoutMs?: number;
  /** Milliseconds of the first pause between connections, at most; each next one is twice as long. Default: 500. */
  readonly reconnectFirstMs?: number;
  /** Milliseconds that no pause between connections exceeds, unless the broker asks for more. Default: 30,000. */
  readonly reconnectMostMs?: number;
  /** Requests that may wait for their answer; one more fails with `queue_full`. Default: 1,000. */
  readonly queueRequests?: number;
  /** Characters of JSON of such requests together. Default: 8,388,608 (8 Mi). */
  readonly queueCharacters?: number;
  /** @internal */
  readonly environment?: Environment;
}

/** What a client tells by itself. */
export interface ClientEvents {
  /** Where the client stands has changed. */
  state: State;
}

/** What a message carries besides its data. */
export interface PublishOptions {
  /**
   * The media type. Default: that of what `data` is: JSON for any value, none for bytes. A string with another type than
   * JSON is published as it is.
   */
  readonly contentType?: string;
  /** At most 32, at most 8 KiB together. Default: none. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Idempotency key, at most 128 bytes: the same id on the same topic is stored once. Default: a new one. */
  readonly id?: string;
  /** Publish only if the topic's newest offset is this one (0: if it has none); otherwise fails with `conflict`. */
  readonly expect?: number;
  /** Milliseconds, instead of the client's `requestTimeoutMs`. */
  readonly timeoutMs?: number;
}

/** Which page of a log. */
export interface HistoryOptions {
  /** Oldest first, from here. */
  readonly from?: Start;
  /** Newest first, before this position. Default, without `from`: `"latest"`, from the newest message. */
  readonly before?: Position | "latest";
  /** At most this many messages, 1 to 1,024; the broker may send fewer. Default: 100. */
  readonly limit?: number;
}

/** Memberships that a client keeps up. */
const MEMBERSHIPS_MAX = 1_000;

/**
 * A client of a Bongsu broker.
 *
 * It connects at once, and again whenever the connection is lost; subscriptions go on where they were and requests without an
 * answer are sent again. See the package's README for the whole story.
 */
export class Client {
  readonly #environment: Environment;
  readonly #emitter = new Emitter<ClientEvents>();
  readonly #requestTimeoutMs: number;
  readonly #link: Link;
  readonly #outbox: Outbox;
  readonly #reader: Reader;
  /** What to enter again on a new connection. */
  readonly #memberships = new Map<string, unknown>();
  #isClosing: Promise<void> | undefined;

  /** Throws a `TypeError` if the address is none, or if there is no WebSocket. */
  constructor(url: string | URL, options: ClientOptions = {}) {
    this.#environment = options.environment ?? realEnvironment();
    this.#requestTimeoutMs = options.requestTimeoutMs ?? 15_000;
    const backoff: BackoffOptions = {
      firstMs: options.reconnectFirstMs ?? 500,
      mostMs: options.reconnectMostMs ?? 30_000,
    };
    const refreshToken = (): Promise<void> => this.#link.refreshToken();
    this.#outbox = new Outbox(
      this.#environment,
      { requestsMax: options.queueRequests ?? 1_000, charactersMax: options.queueCharacters ?? 8 * 1_024 * 1_024 },
      refreshToken,
    );
    this.#reader = new Reader(this.#environment, {
      requestTimeoutMs: this.#requestTimeoutMs,
      retryMs: backoff.firstMs,
      refreshToken,
    });
    this.#link = new Link(
      {
        url: websocketUrl(url),
        WebSocket: options.WebSocket ?? globalWebSocket(),
        token: options.token,
        connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
        requestTimeoutMs: this.#requestTimeoutMs,
        backoff,
      },
      this.#environment,
      {
        onState: (state) => this.#emitter.emit("state", state),
        onOpen: (connection) => this.#opened(connection),
        onEvent: (event, size) => this.#reader.onEvent(event, size),
        onDown: () => {
          this.#reader.detach();
          this.#outbox.detach();
        },
        onClosed: (error) => this.#closed(error),
      },
    );
    // After the constructor's caller had its turn: listeners that are added now see every state.
    queueMicrotask(() => this.#link.start());
  }

  /** Where the client stands. */
  get state(): State {
    return this.#link.state;
  }

  /** Adds a listener and returns what removes it again. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Resolves as soon as the client is connected; rejects if it is closed before. Nothing else needs to wait for it. */
  opened(): Promise<Session> {
    return new Promise((resolve, reject) => {
      const settle = (state: State): boolean => {
        if (state.name === "open") resolve(state.session);
        else if (state.name === "closed") reject(state.error ?? new BongsuError("closed", "the client was closed"));
        else return false;
        return true;
      };
      if (settle(this.state)) return;
      const stop = this.on("state", (state) => {
        if (settle(state)) stop();
      });
    });
  }

  /**
   * Subscribes to a topic (`chat/room/42`) or a pattern: `+` stands for one level, a last `#` for the level before it and
   * everything below.
   *
   * Each topic is read once for the whole client, and its messages go to every subscription that matches. Where
   * subscriptions overlap, the first to reach a topic decides where reading starts.
   */
  subscribe<T = unknown>(filter: string, options: SubscribeOptions = {}): Subscription<T> {
    const subscription = this.#reader.subscribe(filter, options);
    if (this.state.name === "closed" || this.#isClosing !== undefined) subscription.end(this.#whyClosed());
    return subscription as Subscription<T>;
  }

  /**
   * Publishes a message and waits for its acknowledgment: on a topic with history, the message is then committed.
   *
   * Without a connection the message waits. If the connection is lost before the answer came, the message is sent again with
   * the same id, so that it is stored once. `data` is any JSON value, or bytes.
   */
  async publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<Published> {
    const id = options.id ?? this.#environment.newMessageId();
    const { contentType, headers, expect, timeoutMs } = options;
    const message = encodeMessage({ topic, data, contentType, headers, id, expect });
    return await this.#request(
      { publish: { messages: [message] } },
      (reply) => {
        const [result] = decodeResults(reply.body["published"], "published", decodePublished);
        if (result instanceof BongsuError) throw result;
        if (result === undefined) throw new TypeError("no result");
        return { ...result, id };
      },
      timeoutMs,
      id,
    );
  }

  /** Reads a page of a topic's log; needs no subscription and changes none. */
  async history<T = unknown>(topic: string, options: HistoryOptions = {}): Promise<Page<T>> {
    const range: PageRange = options.from === undefined ? { before: options.before ?? "latest" } : { from: options.from };
    return await this.#page(topic, range, options.limit ?? 100);
  }

  /** The members of a topic. */
  presence<Info = unknown>(topic: string): Presence<Info> {
    return new Presence(topic, {
      enter: (name, info) => this.#enter(name, info),
      leave: (name) => this.#leave(name),
      members: (name) => this.#members(name),
      subscribe: (filter) => this.subscribe(filter),
    });
  }

  /** Asks for a sign of life. Milliseconds there and back, and the node's time (milliseconds since 1970). */
  async ping(): Promise<{ roundTripMs: number; time: number }> {
    const startedMs = this.#environment.now();
    const time = await this.#request({ ping: {} }, (reply) => Number(object(reply.body["pong"], "pong")["time"] ?? 0));
    return { roundTripMs: this.#environment.now() - startedMs, time };
  }

  /** Fetches a token and shows it to the broker, before the old one runs out; without a connection, that happens anyway. */
  refreshToken(): Promise<void> {
    return this.#link.refreshToken();
  }

  /** Tries to connect at once if the client waits to connect again, and checks the connection if there is one. */
  wake(): void {
    this.#link.wake();
  }

  /**
   * Ends the subscriptions, waits for the answers to requests that are under way (without a connection: fails them), and
   * closes. Never rejects.
   */
  close(): Promise<void> {
    this.#isClosing ??= this.#close();
    return this.#isClosing;
  }

  async #close(): Promise<void> {
    this.#reader.endAll(undefined);
    // Every request has a deadline of its own, so this ends; without a connection there is nothing to wait for.
    if (this.state.name === "open") {
      const down = new Promise<void>((resolve) => {
        const stop = this.on("state", () => {
          stop();
          resolve();
        });
      });
      await Promise.race([this.#outbox.empty(), down]);
    }
    this.#link.close(undefined);
  }

  #opened(connection: Connection): void {
    const { session } = this.state as Extract<State, { name: "open" }>;
    for (const [topic, info] of this.#memberships) {
      connection.ask({ enter: { topic, info } }, this.#requestTimeoutMs, (reply) => {
        // What the broker refuses for good is not kept up; whoever wants it back enters again.
        if (reply.error !== undefined && !reply.error.retryable) this.#memberships.delete(topic);
      });
    }
    this.#reader.attach(connection, session.frameBytesMax);
    this.#outbox.attach(connection, session.frameBytesMax);
  }

  #closed(error: BongsuError | undefined): void {
    this.#outbox.failAll(error ?? new BongsuError("closed", "the client was closed"));
    this.#reader.endAll(error);
  }

  #whyClosed(): BongsuError {
    const { state } = this;
    return (state.name === "closed" ? state.error : undefined) ?? new BongsuError("closed", "the client was closed");
  }

  #request<T>(command: Command, decode: (reply: Reply) => T, timeoutMs?: number, messageId?: string): Promise<T> {
    if (this.state.name === "closed" || this.#isClosing !== undefined) return Promise.reject(this.#whyClosed());
    return this.#outbox.request(command, {
      timeoutMs: timeoutMs ?? this.#requestTimeoutMs,
      decode,
      ...(messageId === undefined ? {} : { messageId }),
    });
  }

  async #page<T>(topic: string, range: PageRange, limit: number): Promise<Page<T>> {
    const page: WirePage = await this.#request({ history: encodeHistory(topic, range, limit) }, (reply) =>
      decodePage(object(reply.body["history"], "history")),
    );
    const last = page.messages.at(-1)?.position;
    const next = async (): Promise<Page<T> | undefined> => {
      if (!page.more || last === undefined) return undefined;
      return await this.#page<T>(topic, "from" in range ? { from: { after: last } } : { before: last }, limit);
    };
    return { ...page, next } as Page<T>;
  }

  async #enter(topic: string, info: unknown): Promise<void> {
    if (this.#memberships.size >= MEMBERSHIPS_MAX && !this.#memberships.has(topic)) {
      throw new BongsuError("too_many", `a client is a member of at most ${MEMBERSHIPS_MAX} topics`);
    }
    await this.#request({ enter: { topic, info } }, () => {});
    this.#memberships.set(topic, info);
  }

  async #leave(topic: string): Promise<void> {
    this.#memberships.delete(topic);
    await this.#request({ leave: { topic } }, () => {});
  }

  #members(topic: string): Promise<Members> {
    return this.#request({ members: { topic } }, (reply) => decodeMembers(object(reply.body["members"], "members")));
  }
}

function websocketUrl(url: string | URL): string {
  const parsed = new URL(url);
  if (parsed.protocol === "http:") parsed.protocol = "ws:";
  if (parsed.protocol === "https:") parsed.protocol = "wss:";
  if (parsed.protocol !== "ws:" && parsed.protocol !== "wss:") {
    throw new TypeError(`the address of a broker begins with ws:// or wss://, this one is ${parsed.href}`);
  }
  return parsed.href;
}

function globalWebSocket(): WebSocketConstructor {
  const { WebSocket: found } = globalThis as { WebSocket?: WebSocketConstructor };
  if (found === undefined) {
    throw new TypeError("no global WebSocket: hand one in, `new Client(url, { WebSocket })`, with WebSocket from the package ws");
  }
  return found;
}
