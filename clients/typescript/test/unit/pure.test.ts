// The parts without time, sockets or promises.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { adviceOfCloseCode, pauseMs } from "../../src/backoff.js";
import { Cursor } from "../../src/cursor.js";
import { BongsuError } from "../../src/error.js";
import { isPattern, matches, overlaps } from "../../src/filter.js";
import { exceeds } from "../../src/outbox.js";
import { decodeFrame, encodeMessage } from "../../src/wire.js";

describe("backoff", () => {
  const options = { firstMs: 500, mostMs: 30_000 };

  it("doubles up to the bound, drawn from the upper half", () => {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const bound = Math.min(30_000, 500 * 2 ** attempt);
      assert.equal(pauseMs("backoff", attempt, undefined, options, () => 0), Math.round(bound / 2));
      assert.equal(pauseMs("backoff", attempt, undefined, options, () => 1), bound);
    }
  });

  it("spreads clients that are to come at once over a second, the first time", () => {
    assert.equal(pauseMs("now", 0, undefined, options, () => 0.25), 250);
    assert.equal(pauseMs("now", 3, undefined, options, () => 0), 2_000);
  });

  it("waits at least as long as the broker asks, spread as well", () => {
    assert.equal(pauseMs("now", 0, 5_000, options, () => 0), 5_000);
    assert.equal(pauseMs("backoff", 0, 5_000, options, () => 0.5), 5_500);
    assert.equal(pauseMs("backoff", 9, 5_000, options, () => 0), 15_000);
  });

  it("reads close codes by their class", () => {
    const of = (advice: string) => [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 4100, 4101, 4200, 4401, 4403, 3000]
      .filter((code) => adviceOfCloseCode(code) === advice);
    assert.deepEqual(of("never"), [1002, 1003, 1007, 1009, 4401, 4403]);
    assert.deepEqual(of("now"), [1001, 1012, 4200]);
    assert.deepEqual(of("backoff"), [1000, 1005, 1006, 1011, 1013, 4100, 4101, 3000]);
  });
});

describe("filter", () => {
  it("matches as MQTT does", () => {
    const check = (filter: string, topic: string, expected: boolean) =>
      assert.equal(matches(filter, topic), expected, `${filter} and ${topic}`);
    check("chat/1", "chat/1", true);
    check("chat/1", "chat/12", false);
    check("chat/+", "chat/1", true);
    check("chat/+", "chat", false);
    check("chat/+", "chat/1/2", false);
    check("chat/#", "chat", true);
    check("chat/#", "chat/1/2", true);
    check("#", "chat/1", true);
    check("+/1", "chat/1", true);
    check("chat/+/x", "chat/1/x", true);
    check("chat/+/x", "chat/1/y", false);
    check("#", "$sys/a", false);
    check("+/a", "$sys/a", false);
    check("$sys/#", "$sys/a", true);
  });

  it("knows patterns", () => {
    assert.ok(isPattern("a/+/b") && isPattern("#") && !isPattern("a/b"));
  });

  it("finds an overlap wherever a topic matches both", () => {
    const levels = ["a", "b", "+"];
    const filters = ["#", ...levels, ...levels.flatMap((one) => ["#", ...levels].map((two) => `${one}/${two}`))];
    const topics = ["a", "b", "c", "a/a", "a/b", "b/a", "b/b", "a/c", "c/a", "b/c", "c/b", "c/c", "a/b/c", "b/b/b", "c/c/c"];
    for (const one of filters) {
      for (const other of filters) {
        const expected = topics.some((topic) => matches(one, topic) && matches(other, topic));
        assert.equal(overlaps(one, other), expected, `${one} and ${other}`);
      }
    }
  });
});

describe("cursor", () => {
  it("takes what follows, drops what was seen, and sees holes", () => {
    const cursor = new Cursor();
    assert.equal(cursor.verdict("t", { epoch: 3, offset: 7 }), "next");
    cursor.advance("t", { epoch: 3, offset: 7 });
    assert.equal(cursor.verdict("t", { epoch: 3, offset: 7 }), "seen");
    assert.equal(cursor.verdict("t", { epoch: 2, offset: 9 }), "seen");
    assert.equal(cursor.verdict("t", { epoch: 3, offset: 8 }), "next");
    assert.equal(cursor.verdict("t", { epoch: 3, offset: 9 }), "hole");
    assert.equal(cursor.verdict("t", { epoch: 4, offset: 1 }), "hole");
  });

  it("lets the first message follow the time before there was a log", () => {
    const cursor = new Cursor();
    cursor.start("t", { epoch: 0, offset: 0 });
    assert.equal(cursor.verdict("t", { epoch: 4, offset: 1 }), "next");
    assert.equal(cursor.verdict("t", { epoch: 4, offset: 2 }), "hole");
  });

  it("starts where the broker says unless a delivery came before", () => {
    const cursor = new Cursor();
    cursor.start("t", { epoch: 1, offset: 4 });
    cursor.start("t", { epoch: 1, offset: 9 });
    assert.deepEqual(cursor.place("t"), { epoch: 1, offset: 4 });
  });

  it("begins a new log with whatever offset is the oldest", () => {
    const cursor = new Cursor();
    cursor.advance("t", { epoch: 1, offset: 4 });
    cursor.reset("t", 2);
    assert.equal(cursor.verdict("t", { epoch: 2, offset: 31 }), "next");
    cursor.advance("t", { epoch: 2, offset: 31 });
    assert.equal(cursor.verdict("t", { epoch: 2, offset: 33 }), "hole");
  });

  it("judges losses by the offsets that they close", () => {
    const cursor = new Cursor();
    cursor.advance("t", { epoch: 1, offset: 4 });
    assert.equal(cursor.verdictOfLost("t", 1, 5, 9), "next");
    assert.equal(cursor.verdictOfLost("t", 1, 2, 9), "next");
    assert.equal(cursor.verdictOfLost("t", 1, 2, 4), "seen");
    assert.equal(cursor.verdictOfLost("t", 1, 6, 9), "hole");
  });
});

describe("wire", () => {
  it("writes a payload in the form that its type and content type ask for", () => {
    const form = (data: unknown, contentType?: string) => encodeMessage({ topic: "t", data, contentType, id: "i" });
    assert.deepEqual(form({ a: [1] }), { topic: "t", data: { a: [1] }, id: "i" });
    assert.deepEqual(form("x"), { topic: "t", data: "x", id: "i" });
    assert.deepEqual(form(null), { topic: "t", data: null, id: "i" });
    assert.deepEqual(form("x", "text/csv"), { topic: "t", text: "x", type: "text/csv", id: "i" });
    assert.deepEqual(form("x", "application/ld+json"), { topic: "t", data: "x", type: "application/ld+json", id: "i" });
    assert.deepEqual(form(Uint8Array.of(0, 255)), { topic: "t", bytes: "AP8=", id: "i" });
    assert.deepEqual(form(Uint8Array.of(0, 255).buffer), { topic: "t", bytes: "AP8=", id: "i" });
    assert.throws(() => form(undefined), BongsuError);
    assert.throws(() => form(() => 1), BongsuError);
  });

  it("writes and reads bytes of any length", () => {
    const bytes = Uint8Array.from({ length: 100_003 }, (_, i) => i * 7);
    const { bytes: encoded } = encodeMessage({ topic: "t", data: bytes, id: "i" }) as { bytes: string };
    assert.equal(encoded, Buffer.from(bytes).toString("base64"));
    const [event] = decodeFrame(JSON.stringify({ delivery: { topic: "t", time: 1, bytes: encoded } }));
    assert.deepEqual(event?.kind === "delivery" && event.message.data, bytes);
  });

  it("skips events and fields that it does not know", () => {
    assert.deepEqual(decodeFrame('[{"news":{}},{"heartbeat":{"more":1}},{"welcome2":1}]'), [{ kind: "heartbeat" }]);
  });

  it("takes an unknown error code for internal, and unknown advice for backoff", () => {
    const [ended] = decodeFrame('{"unsubscribed":{"filter":"t","error":{"code":"new_one","text":"x"}}}');
    assert.equal(ended?.kind === "unsubscribed" && ended.error.code, "internal");
    const [goodbye] = decodeFrame('{"goodbye":{"reason":"going_away","text":"","reconnect":"later"}}');
    assert.equal(goodbye?.kind === "goodbye" && goodbye.goodbye.advice, "backoff");
  });

  it("refuses what is no frame", () => {
    for (const frame of ["", "7", "[7]", "null", '{"delivery":{"topic":7}}', '{"reset":{"topic":"t","epoch":-1}}', '{"lost":[]}']) {
      assert.throws(() => decodeFrame(frame), frame);
    }
  });

  it("counts bytes only where it matters", () => {
    assert.equal(exceeds("é".repeat(10), 51), true);
    assert.equal(exceeds("é".repeat(10), 52), false);
    assert.equal(exceeds("é".repeat(10), 1_000), false);
  });
});
