// The golden vectors that all implementations of the protocol share.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { decodeFrame, encodeHistory, encodeMessage, encodeSubscription, type ServerEvent } from "../../src/wire.js";
import type { Wire } from "../support/world.js";

function vectors(name: string): { name: string; json: Wire }[] {
  return JSON.parse(readFileSync(new URL(`../../../../../protocol/vectors/${name}.json`, import.meta.url), "utf8"));
}

/** An event as it was before it was decoded, as far as the client keeps it. */
function check(event: ServerEvent, json: Wire): void {
  const wire = json[event.kind];
  assert.ok(wire, `${event.kind} of ${Object.keys(json)}`);
  if (event.kind === "delivery") {
    const { topic, position, time, publisher, contentType, headers, id, erased, data } = event.message;
    assert.deepEqual(
      [topic, position?.epoch, position?.offset, time, publisher, contentType, headers, id, erased],
      [wire.topic, wire.epoch, wire.offset, wire.time, wire.publisher ?? "", wire.type ?? "", wire.headers ?? {}, wire.id ?? "", wire.erased ?? false],
    );
    if (erased) assert.equal(data, undefined);
    else if ("bytes" in wire) assert.equal(Buffer.from(data as Uint8Array).toString("base64"), wire.bytes);
    else assert.deepEqual(data, "data" in wire ? wire.data : wire.text);
  } else if (event.kind === "lost") {
    assert.deepEqual(event.lost, { epoch: 0, from: 0, until: 0, count: 0, ...wire });
  } else if (event.kind === "reset") {
    assert.deepEqual({ topic: event.topic, epoch: event.epoch }, wire);
  } else if (event.kind === "reply") {
    assert.equal(event.reply.id, wire.id);
    if (wire.error) checkError(event.reply.error, wire.error);
  } else if (event.kind === "unsubscribed") {
    assert.equal(event.filter, wire.filter);
    checkError(event.error, wire.error);
  } else if (event.kind === "goodbye") {
    const { reason, text, advice, retryAfterMs } = event.goodbye;
    assert.deepEqual([reason, text, advice, retryAfterMs], [wire.reason, wire.text ?? "", wire.reconnect, wire.retryAfterMs]);
  } else if (event.kind === "tokenExpiring") {
    assert.equal(event.inMs, wire.inMs);
  } else if (event.kind === "welcome") {
    const { time: _, ...kept } = wire;
    assert.deepEqual(event.session, { subject: "", ...kept });
  }
}

function checkError(error: Wire, wire: Wire): void {
  assert.deepEqual([error.code, error.retryAfterMs, error.head], [wire.code, wire.retryAfterMs, wire.head]);
}

describe("vectors", () => {
  it("of events are understood, all of them", () => {
    const list = vectors("events");
    assert.ok(list.length > 40);
    for (const { name, json } of list) {
      const frame = Array.isArray(json) ? json : [json];
      const events = decodeFrame(JSON.stringify(json));
      assert.equal(events.length, frame.length, name);
      events.forEach((event, i) => check(event, frame[i]));
    }
  });

  it("of requests are what this client writes", () => {
    let n = 0;
    for (const { json } of vectors("requests")) {
      for (const request of Array.isArray(json) ? json : [json]) {
        for (const subscription of request.subscribe?.subscriptions ?? []) {
          const seen = (subscription.seen ?? []).map(({ topic, position }: Wire) => [topic, position]);
          assert.deepEqual(encodeSubscription({ ...subscription, seen }), subscription);
          n += 1;
        }
        for (const message of request.publish?.messages ?? []) {
          const { type: contentType, bytes, text, data = text, ...rest } = message;
          // This client gives each message an id, and names the type of each text.
          if (text !== undefined && contentType === undefined) continue;
          const payload = bytes === undefined ? data : Uint8Array.from(Buffer.from(bytes, "base64"));
          assert.deepEqual(encodeMessage({ id: "i", ...rest, data: payload, contentType }), { id: "i", ...message });
          n += 1;
        }
        if (request.history !== undefined) {
          const { topic, limit, ...range } = request.history;
          const asked = Object.keys(range).length === 0 ? { before: "latest" as const } : range;
          assert.deepEqual(encodeHistory(topic, asked, limit), { topic, ...asked, limit });
          n += 1;
        }
      }
    }
    assert.ok(n > 20);
  });
});
