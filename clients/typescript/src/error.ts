// Why something failed, with what to do about it.

import type { Position } from "./types.js";

/**
 * What kind of failure it was. The first group comes from the broker; the second from this client:
 *
 * - `timeout`: no answer in time. A publish may have happened; repeat it with the same id.
 * - `queue_full`: too many requests wait already; wait for some of them, then repeat.
 * - `closed`: the client or the subscription was closed, or the broker said not to connect again.
 */
export type ErrorCode =
  | "bad_request"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "too_large"
  | "too_many"
  | "rate_limited"
  | "conflict"
  | "unavailable"
  | "unsupported"
  | "internal"
  | "timeout"
  | "queue_full"
  | "closed";

const BROKER_CODES: ReadonlySet<string> = new Set<ErrorCode>([
  "bad_request",
  "unauthenticated",
  "forbidden",
  "not_found",
  "too_large",
  "too_many",
  "rate_limited",
  "conflict",
  "unavailable",
  "unsupported",
  "internal",
]);

const RETRYABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "rate_limited",
  "unavailable",
  "internal",
  "timeout",
  "queue_full",
]);

/** What a {@link BongsuError} knows besides its code and text. */
export interface ErrorDetails {
  /** Milliseconds to wait before repeating. */
  retryAfterMs?: number | undefined;
  /** With `conflict`: the topic's newest position. */
  head?: Position | undefined;
  /** Of a publish: the message's id. Repeat with it, and the message is stored once. */
  messageId?: string | undefined;
  /** What led to this error. */
  cause?: unknown;
}

/** The one error type of this client: every rejected promise and every failed iteration throws it. */
export class BongsuError extends Error {
  /** The kind, for programs. */
  readonly code: ErrorCode;
  /** Whether the same request may succeed later without being changed. */
  readonly retryable: boolean;
  /** Milliseconds to wait before repeating, where the broker has an opinion. */
  readonly retryAfterMs: number | undefined;
  /** With `conflict`: the topic's newest position. */
  readonly head: Position | undefined;
  /** Of a publish: the message's id. Repeat with it, and the message is stored once. */
  readonly messageId: string | undefined;

  constructor(code: ErrorCode, text: string, details: ErrorDetails = {}) {
    super(`${code}: ${text}`, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "BongsuError";
    this.code = code;
    this.retryable = RETRYABLE.has(code);
    this.retryAfterMs = details.retryAfterMs;
    this.head = details.head;
    this.messageId = details.messageId;
  }
}

/** A code from the wire; one that this client does not know counts as `internal`. */
export function knownCode(code: string): ErrorCode {
  return BROKER_CODES.has(code) ? (code as ErrorCode) : "internal";
}
