// Random lives of the client, and planted bugs that they must catch. A seed that fails becomes a test of its own.

import assert from "node:assert/strict";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as real from "../../src/index.js";
import { runModel } from "../support/run.js";

const SEEDS = Number(process.env["BONGSU_MODEL_SEEDS"] ?? 200);

/**
 * A bug: in this module, this text (as compiled, there exactly once) becomes that. What only a rare life shows names the seed of
 * one.
 */
const BUGS: { what: string; module: string; is: string; becomes: string; seed?: number }[] = [
  {
    what: "what was seen before is taken again",
    module: "cursor",
    is: 'return position.offset <= place.offset ? "seen" : "hole";',
    becomes: 'return position.offset <= place.offset ? "next" : "hole";',
  },
  {
    what: "a hole passes silently",
    module: "cursor",
    is: 'return position.offset <= place.offset ? "seen" : "hole";',
    becomes: 'return position.offset <= place.offset ? "seen" : "next";',
  },
  {
    what: "the place counts as reached though there was no room",
    module: "subscription",
    is: 'return this.#leave(topic, position, "full");',
    becomes: '{ this.#advance(topic, position); return "full"; }',
  },
  {
    what: "the first message of a topic is left without a note of its place",
    module: "subscription",
    is: "this.cursor.start(topic, { epoch, offset: offset - 1 });",
    becomes: "",
  },
  {
    what: "a reset is not followed",
    module: "subscription",
    is: "this.cursor.reset(topic, epoch);\n        // Before",
    becomes: "// Before",
  },
  {
    what: "a reset that another subscription asked for is followed",
    module: "subscription",
    is: "if (this.#resetsForOthers.delete(topic) && place?.epoch === epoch)",
    becomes: "if (false)",
  },
  {
    what: "a loss is told from where the broker says, not from where the reader is",
    module: "subscription",
    is: "const first = place !== undefined && place.epoch === epoch ? place.offset + 1 : from;",
    becomes: "const first = from;",
  },
  {
    what: "a loss is told but not stepped over",
    module: "subscription",
    is: "this.#advance(topic, { epoch, offset: until });",
    becomes: "",
  },
  {
    what: "the furthest subscription decides where all go on",
    module: "reader",
    is: "comparePositions(place, other) < 0",
    becomes: "comparePositions(place, other) > 0",
  },
  {
    what: "subscriptions that overlap are not moved together",
    module: "reader",
    is: "for (const feed of found) {\n            for",
    becomes: "for (const feed of []) {\n            for",
  },
  {
    what: "a pattern goes on with its original start",
    module: "reader",
    is: "return times.length > 0 ? { time: Math.min(...times) } : takers[0]?.from;",
    becomes: "return takers[0]?.from;",
  },
  {
    what: "a new subscription decides from where an older one with its filter goes on",
    module: "reader",
    is: "times.length > 0 ?",
    becomes: "times.length === takers.length ?",
  },
  {
    what: "a paused subscription is ended though another meets its topics",
    module: "reader",
    is: "return this.#overlapping(feed).length > 0 ? subscriptions : [];",
    becomes: "return [];",
    seed: 1099,
  },
  {
    what: "new subscriptions are asked for together with those that go on",
    module: "reader",
    is: "older.length > 0 && older.length < feeds.length",
    becomes: "false",
    seed: 368,
  },
  {
    what: "a paused subscription is never asked for again",
    module: "reader",
    is: "subscription.unpaused();\n        this.#moveSoon(feed);",
    becomes: "subscription.unpaused();",
  },
  {
    what: "an interruption of a topic without history is not told",
    module: "subscription",
    is: "this.#liveLost.set(topic, undefined);",
    becomes: "",
  },
  {
    what: "what is dropped of a topic without history is not counted",
    module: "subscription",
    is: "this.#liveLost.set(topic, before === undefined ? undefined : before + count);",
    becomes: "",
    seed: 226,
  },
  {
    what: "requests without an answer are not sent again",
    module: "outbox",
    is: "for (const entry of this.#entries)\n            entry.sentAs = undefined;",
    becomes: "",
  },
  {
    what: "a publish has no id",
    module: "wire",
    is: 'out["id"] = id;',
    becomes: "",
  },
];

describe("model", () => {
  it(`keeps every promise in ${SEEDS} random lives`, async () => {
    // Those with a rare life, too: the bug must be what fails there.
    const rare = BUGS.flatMap(({ seed }) => (seed === undefined ? [] : [seed]));
    for (const seed of [...Array.from({ length: SEEDS }, (_, i) => i + 1), ...rare]) {
      await runModel(seed, real).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      });
    }
  });

  for (const [i, bug] of BUGS.entries()) {
    it(`catches a planted bug: ${bug.what}`, async () => {
      const source = fileURLToPath(new URL("../../src/", import.meta.url));
      const copy = fileURLToPath(new URL(`../../bugs/${i}/`, import.meta.url));
      await mkdir(copy, { recursive: true });
      try {
        await cp(source, copy, { recursive: true });
        const file = join(copy, `${bug.module}.js`);
        const text = await readFile(file, "utf8");
        assert.equal(text.split(bug.is).length, 2, `${bug.module} has this text once: ${bug.is}`);
        await writeFile(file, text.replace(bug.is, () => bug.becomes));
        const planted = (await import(pathToFileURL(join(copy, "index.js")).href)) as typeof real;
        assert.ok(await isCaught(planted, bug.seed), `${SEEDS} lives with this bug look fine`);
      } finally {
        await rm(copy, { recursive: true, force: true });
      }
    });
  }
});

async function isCaught(planted: typeof real, known: number | undefined): Promise<boolean> {
  const seeds = Array.from({ length: SEEDS }, (_, i) => i + 1);
  for (const seed of known === undefined ? seeds : [known, ...seeds]) {
    try {
      await runModel(seed, planted);
    } catch {
      return true;
    }
  }
  return false;
}
