// The sub-protocol `bongsu.v1.json`: what goes over the wire, and nothing of when. See docs/protocol.md.

import { BongsuError, knownCode } from "./error.js";
import type { Advice } from "./backoff.js";
import type { Member, Members, Message, Position, Session, Start } from "./types.js";

export const SUB_PROTOCOL = "bongsu.v1.json";

/** Requests in one frame; the broker closes the connection on more. */
export const REQUESTS_PER_FRAME_MAX = 1_024;
/** Subscriptions in one subscribe request, and filters in one unsubscribe request. */
export const FILTERS_PER_REQUEST_MAX = 1_024;

export interface NewSubscription {
  readonly filter: string;
  readonly from?: Start | undefined;
  readonly seen?: readonly (readonly [string, Position])[] | undefined;
}

/** What is asked, without the request's id. */
export type Command =
  | { readonly authenticate: { readonly token: string } }
  | { readonly subscribe: { readonly subscriptions: readonly object[] } }
  | { readonly unsubscribe: { readonly filters: readonly string[] } }
  | { readonly publish: { readonly messages: readonly object[] } }
  | { readonly history: object }
  | { readonly enter: { readonly topic: string; readonly info: unknown } }
  | { readonly leave: { readonly topic: string } }
  | { readonly members: { readonly topic: string } }
  | { readonly ping: object };

/** Where reading of a page starts and which way it goes. */
export type PageRange = { readonly from: Start } | { readonly before: Position | "latest" };

export interface WireLost {
  readonly topic: string;
  readonly epoch: number;
  readonly from: number;
  readonly until: number;
  readonly count: number;
}

export interface Goodbye {
  readonly reason: string;
  readonly text: string;
  readonly advice: Advice;
  readonly retryAfterMs: number | undefined;
}

export interface Subscribed {
  readonly since: number;
  readonly positions: readonly (readonly [string, Position])[];
}

/** A reply's content by its kind, still as it came: whoever asked knows what it must be. */
export interface Reply {
  readonly id: number;
  readonly error: BongsuError | undefined;
  readonly body: Json;
}

/** What the broker tells. An event that this client does not know is `undefined` and skipped. */
export type ServerEvent =
  | { readonly kind: "welcome"; readonly session: Session }
  | { readonly kind: "reply"; readonly reply: Reply }
  | { readonly kind: "delivery"; readonly message: Message }
  | { readonly kind: "lost"; readonly lost: WireLost }
  | { readonly kind: "reset"; readonly topic: string; readonly epoch: number }
  | { readonly kind: "unsubscribed"; readonly filter: string; readonly error: BongsuError }
  | { readonly kind: "heartbeat" }
  | { readonly kind: "tokenExpiring"; readonly inMs: number }
  | { readonly kind: "goodbye"; readonly goodbye: Goodbye };

export interface Json {
  readonly [key: string]: unknown;
}

// --------------------------------------------------------------------------------------------------- to the broker

export function encodeSubscription({ filter, from, seen }: NewSubscription): object {
  const out: Record<string, unknown> = { filter };
  if (from !== undefined) out["from"] = encodeStart(from);
  if (seen !== undefined && seen.length > 0) {
    out["seen"] = seen.map(([topic, position]) => ({ topic, position: encodePosition(position) }));
  }
  return out;
}

export interface NewMessage {
  readonly topic: string;
  readonly data: unknown;
  readonly contentType?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly id: string;
  readonly expect?: number | undefined;
}

/**
 * Bytes go as bytes, a string with a content type that is not JSON as text, anything else as JSON.
 * Throws `bad_request` where a value has no JSON form.
 */
export function encodeMessage(message: NewMessage): object {
  const { topic, data, contentType, headers, id, expect } = message;
  const out: Record<string, unknown> = { topic };
  if (data instanceof Uint8Array) out["bytes"] = toBase64(data);
  else if (data instanceof ArrayBuffer) out["bytes"] = toBase64(new Uint8Array(data));
  else if (typeof data === "string" && contentType !== undefined && !isJsonType(contentType)) out["text"] = data;
  else if (JSON.stringify(data) === undefined) throw new BongsuError("bad_request", `${typeof data} has no JSON form`);
  else out["data"] = data;
  if (contentType !== undefined) out["type"] = contentType;
  if (headers !== undefined) out["headers"] = headers;
  out["id"] = id;
  if (expect !== undefined) out["expect"] = expect;
  return out;
}

export function encodeHistory(topic: string, range: PageRange, limit: number): object {
  if ("from" in range) return { topic, from: encodeStart(range.from), limit };
  return { topic, before: range.before === "latest" ? "latest" : encodePosition(range.before), limit };
}

function encodeStart(start: Start): unknown {
  return typeof start === "object" && "after" in start ? { after: encodePosition(start.after) } : start;
}

/** Two numbers and nothing else, whatever the object has: the broker refuses fields that it does not know. */
function encodePosition({ epoch, offset }: Position): Position {
  return { epoch, offset };
}

function isJsonType(contentType: string): boolean {
  const essence = (contentType.split(";", 1)[0] ?? "").trim().toLowerCase();
  return essence === "application/json" || essence.endsWith("+json");
}

// ------------------------------------------------------------------------------------------------- from the broker

/** The events of a frame. Throws if it is none: the connection is then of no use. */
export function decodeFrame(text: string): ServerEvent[] {
  const frame: unknown = JSON.parse(text);
  const events: ServerEvent[] = [];
  for (const event of Array.isArray(frame) ? frame : [frame]) {
    const decoded = decodeEvent(object(event, "event"));
    if (decoded !== undefined) events.push(decoded);
  }
  return events;
}

function decodeEvent(event: Json): ServerEvent | undefined {
  if (event["delivery"] !== undefined) return { kind: "delivery", message: decodeDelivery(event["delivery"]) };
  if (event["reply"] !== undefined) return { kind: "reply", reply: decodeReply(object(event["reply"], "reply")) };
  if (event["heartbeat"] !== undefined) return { kind: "heartbeat" };
  if (event["lost"] !== undefined) return { kind: "lost", lost: decodeLost(object(event["lost"], "lost")) };
  if (event["reset"] !== undefined) {
    const reset = object(event["reset"], "reset");
    return { kind: "reset", topic: text(reset, "topic"), epoch: integer(reset, "epoch") };
  }
  if (event["welcome"] !== undefined) {
    return { kind: "welcome", session: decodeWelcome(object(event["welcome"], "welcome")) };
  }
  if (event["unsubscribed"] !== undefined) {
    const ended = object(event["unsubscribed"], "unsubscribed");
    return { kind: "unsubscribed", filter: text(ended, "filter"), error: decodeError(ended["error"]) };
  }
  if (event["tokenExpiring"] !== undefined) {
    return { kind: "tokenExpiring", inMs: integer(object(event["tokenExpiring"], "tokenExpiring"), "inMs") };
  }
  if (event["goodbye"] !== undefined) {
    return { kind: "goodbye", goodbye: decodeGoodbye(object(event["goodbye"], "goodbye")) };
  }
  return undefined;
}

function decodeWelcome(welcome: Json): Session {
  return {
    session: text(welcome, "session"),
    node: text(welcome, "node"),
    subject: text(welcome, "subject"),
    heartbeatMs: integer(welcome, "heartbeatMs"),
    frameBytesMax: integer(welcome, "frameBytesMax"),
  };
}

function decodeReply(reply: Json): Reply {
  const error = reply["error"] === undefined ? undefined : decodeError(reply["error"]);
  return { id: integer(reply, "id"), error, body: reply };
}

export function decodeDelivery(value: unknown): Message {
  const delivery = object(value, "delivery");
  const position = delivery["offset"] === undefined ? undefined : decodePosition(delivery);
  return {
    kind: "message",
    topic: text(delivery, "topic"),
    position,
    offset: position?.offset,
    time: integer(delivery, "time"),
    publisher: text(delivery, "publisher"),
    data: decodePayload(delivery),
    contentType: text(delivery, "type"),
    headers: (delivery["headers"] ?? {}) as Record<string, string>,
    id: text(delivery, "id"),
    erased: delivery["erased"] === true,
  };
}

function decodePayload(delivery: Json): unknown {
  if (delivery["erased"] === true) return undefined;
  if ("data" in delivery) return delivery["data"];
  if (typeof delivery["text"] === "string") return delivery["text"];
  return fromBase64(text(delivery, "bytes"));
}

function decodeLost(lost: Json): WireLost {
  return {
    topic: text(lost, "topic"),
    epoch: integer(lost, "epoch"),
    from: integer(lost, "from"),
    until: integer(lost, "until"),
    count: integer(lost, "count"),
  };
}

function decodeGoodbye(goodbye: Json): Goodbye {
  const advice = goodbye["reconnect"];
  return {
    reason: text(goodbye, "reason"),
    text: text(goodbye, "text"),
    advice: advice === "never" || advice === "now" ? advice : "backoff",
    retryAfterMs: optionalInteger(goodbye, "retryAfterMs"),
  };
}

export function decodeError(value: unknown): BongsuError {
  const error = object(value, "error");
  return new BongsuError(knownCode(text(error, "code")), text(error, "text"), {
    retryAfterMs: optionalInteger(error, "retryAfterMs"),
    head: error["head"] === undefined ? undefined : decodePosition(object(error["head"], "head")),
  });
}

/** One result per thing that was asked for, in order; an error in a result stands for that one alone. */
export function decodeResults<T>(list: unknown, kind: string, decode: (result: Json) => T): (T | BongsuError)[] {
  const { results } = object(list, "results");
  if (!Array.isArray(results)) throw new TypeError("results are no list");
  return results.map((item) => {
    const result = object(item, "result");
    return result["error"] === undefined ? decode(object(result[kind], kind)) : decodeError(result["error"]);
  });
}

export function decodeSubscribed(value: Json): Subscribed {
  const positions = (value["positions"] ?? []) as unknown[];
  return {
    since: integer(value, "since"),
    positions: positions.map((item) => {
      const named = object(item, "position");
      return [text(named, "topic"), decodePosition(object(named["position"], "position"))] as const;
    }),
  };
}

export function decodePublished(value: Json): { position: Position | undefined; duplicate: boolean } {
  return {
    position: value["position"] === undefined ? undefined : decodePosition(object(value["position"], "position")),
    duplicate: value["duplicate"] === true,
  };
}

export interface WirePage {
  readonly messages: readonly Message[];
  readonly first: Position;
  readonly head: Position;
  readonly more: boolean;
}

export function decodePage(value: Json): WirePage {
  return {
    messages: ((value["messages"] ?? []) as unknown[]).map(decodeDelivery),
    first: decodePosition(object(value["first"], "first")),
    head: decodePosition(object(value["head"], "head")),
    more: value["more"] === true,
  };
}

export function decodeMembers(value: Json): Members {
  const members = ((value["members"] ?? []) as unknown[]).map(decodeMember);
  return { members, total: integer(value, "total") };
}

export function decodeMember(value: unknown): Member {
  const member = object(value, "member");
  return {
    session: text(member, "session"),
    subject: text(member, "subject"),
    info: member["info"],
    since: integer(member, "since"),
  };
}

export function decodePosition(value: Json): Position {
  return { epoch: integer(value, "epoch"), offset: integer(value, "offset") };
}

// ----------------------------------------------------------------------------------------------------------- parts

export function object(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError(`${what} is no object`);
  return value as Json;
}

/** A text; absent means empty, as everywhere in the protocol. */
function text(from: Json, key: string): string {
  const value = from[key] ?? "";
  if (typeof value !== "string") throw new TypeError(`${key} is no text`);
  return value;
}

/** An integer; absent means 0, as everywhere in the protocol. */
function integer(from: Json, key: string): number {
  return optionalInteger(from, key) ?? 0;
}

function optionalInteger(from: Json, key: string): number | undefined {
  const value = from[key];
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new TypeError(`${key} is no integer`);
  return value as number;
}

function toBase64(bytes: Uint8Array): string {
  let binary = "";
  // In pieces, since a call takes some tens of thousands of arguments at most.
  for (let at = 0; at < bytes.length; at += 8_192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  }
  return btoa(binary);
}

function fromBase64(encoded: string): Uint8Array {
  return Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
}
