// The requests of the application: they wait here while there is no connection, and until their answer has come.

import type { Connection } from "./connection.js";
import type { Environment, Timer } from "./environment.js";
import { BongsuError } from "./error.js";
import type { Command, Reply } from "./wire.js";

export interface OutboxLimits {
  /** Requests that have no answer yet. */
  readonly requestsMax: number;
  /** Characters of their JSON together. */
  readonly charactersMax: number;
}

/** What a request of the application needs besides its command. */
export interface Asking<T> {
  readonly timeoutMs: number;
  /** Makes the result of the reply, or throws what the request fails with. */
  readonly decode: (reply: Reply) => T;
  /** Of a publish: the message's id, to be named by errors. */
  readonly messageId?: string;
}

interface Entry {
  readonly text: string;
  readonly messageId: string | undefined;
  readonly onReply: (reply: Reply) => void;
  readonly fail: (error: BongsuError) => void;
  readonly deadline: Timer;
  /** The request's id on the present connection, once it was sent. */
  sentAs: number | undefined;
  /** Its token was refused, and a new one was asked for. */
  isSecondTry: boolean;
}

/**
 * All of the protocol's requests may be sent twice: what they do, they do once. (A publish carries its id.) So everything
 * that has no answer when a connection ends is sent again on the next one, in the same order.
 */
export class Outbox {
  readonly #environment: Environment;
  readonly #limits: OutboxLimits;
  readonly #refreshToken: () => Promise<void>;
  /** In the order of asking. */
  readonly #entries = new Set<Entry>();
  #characters = 0;
  #connection: Connection | undefined;
  #frameBytesMax = Infinity;
  #flushIsDue = false;
  #onEmpty: (() => void)[] = [];

  constructor(environment: Environment, limits: OutboxLimits, refreshToken: () => Promise<void>) {
    this.#environment = environment;
    this.#limits = limits;
    this.#refreshToken = refreshToken;
  }

  /** Requests without an answer. */
  get size(): number {
    return this.#entries.size;
  }

  request<T>(command: Command, { timeoutMs, decode, messageId }: Asking<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const text = JSON.stringify(command);
      if (
        this.#entries.size >= this.#limits.requestsMax ||
        (this.#entries.size > 0 && this.#characters + text.length > this.#limits.charactersMax)
      ) {
        reject(new BongsuError("queue_full", `${this.#entries.size} requests wait for an answer`, { messageId }));
        return;
      }
      const settle = (finish: () => void): void => {
        this.#remove(entry);
        finish();
      };
      const entry: Entry = {
        text,
        messageId,
        sentAs: undefined,
        isSecondTry: false,
        deadline: this.#environment.setTimer(timeoutMs, () => {
          entry.fail(new BongsuError("timeout", `no answer within ${timeoutMs} ms`, { messageId }));
        }),
        fail: (error) => settle(() => reject(withMessageId(error, messageId))),
        onReply: (reply) => {
          entry.sentAs = undefined;
          if (reply.error?.code === "unauthenticated" && !entry.isSecondTry) return this.#tryAgain(entry, reply.error);
          try {
            if (reply.error !== undefined) throw reply.error;
            const result = decode(reply);
            settle(() => resolve(result));
          } catch (error) {
            if (error instanceof BongsuError) return entry.fail(error);
            entry.fail(new BongsuError("internal", "the broker sent what is no reply", { cause: error }));
          }
        },
      };
      this.#entries.add(entry);
      this.#characters += text.length;
      this.#flushSoon();
    });
  }

  attach(connection: Connection, frameBytesMax: number): void {
    this.#connection = connection;
    this.#frameBytesMax = frameBytesMax > 0 ? frameBytesMax : Infinity;
    this.#flush();
  }

  detach(): void {
    this.#connection = undefined;
    for (const entry of this.#entries) entry.sentAs = undefined;
  }

  /** Fails everything that waits. */
  failAll(error: BongsuError): void {
    for (const entry of [...this.#entries]) entry.fail(error);
  }

  /** Resolves when nothing waits any more. */
  empty(): Promise<void> {
    if (this.#entries.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty.push(resolve));
  }

  #remove(entry: Entry): void {
    if (!this.#entries.delete(entry)) return;
    this.#characters -= entry.text.length;
    this.#environment.clearTimer(entry.deadline);
    if (entry.sentAs !== undefined) this.#connection?.forget(entry.sentAs);
    if (this.#entries.size === 0) {
      for (const resolve of this.#onEmpty.splice(0)) resolve();
    }
  }

  #tryAgain(entry: Entry, error: BongsuError): void {
    entry.isSecondTry = true;
    // Until the token is there, the entry counts as sent, so that no flush takes it along.
    entry.sentAs = 0;
    const connection = this.#connection;
    this.#refreshToken().then(
      () => {
        if (entry.sentAs === 0) entry.sentAs = undefined;
        this.#flushSoon();
      },
      () => {
        // If the connection is gone, the next one has a new token, and everything is sent again there.
        if (connection === this.#connection) entry.fail(error);
      },
    );
  }

  /** Requests that are made in one turn of the event loop share a frame. */
  #flushSoon(): void {
    if (this.#flushIsDue) return;
    this.#flushIsDue = true;
    queueMicrotask(() => {
      this.#flushIsDue = false;
      this.#flush();
    });
  }

  #flush(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    const unsent: Entry[] = [];
    for (const entry of [...this.#entries]) {
      if (entry.sentAs !== undefined) continue;
      if (exceeds(entry.text, this.#frameBytesMax)) {
        entry.fail(new BongsuError("too_large", `the broker takes frames of at most ${this.#frameBytesMax} bytes`));
      } else {
        unsent.push(entry);
      }
    }
    connection.send(unsent).forEach((id, i) => ((unsent[i] as Entry).sentAs = id));
  }
}

/** Bytes that a request's id and its braces may add. */
const ENVELOPE_BYTES = 32;

/** Whether the text has more bytes than that; counted only where it is near. */
export function exceeds(text: string, bytesMax: number): boolean {
  if (text.length * 3 + ENVELOPE_BYTES <= bytesMax) return false;
  return new TextEncoder().encode(text).length + ENVELOPE_BYTES > bytesMax;
}

function withMessageId(error: BongsuError, messageId: string | undefined): BongsuError {
  if (messageId === undefined || error.messageId !== undefined) return error;
  const text = error.message.slice(error.code.length + 2);
  const { retryAfterMs, head, cause } = error;
  return new BongsuError(error.code, text, { retryAfterMs, head, cause, messageId });
}
