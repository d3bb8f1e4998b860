// One subscription of the application: what it has seen, what waits to be read, and the loop that reads it.

import { Cursor, TOPICS_MAX } from "./cursor.js";
import { Emitter } from "./emitter.js";
import { BongsuError } from "./error.js";
import type { Item, Lost, Message, Position, Reset, Start } from "./types.js";
import type { Subscribed, WireLost } from "./wire.js";

/** How a subscription reads. */
export interface SubscribeOptions {
  /** Where reading starts, on topics that `seen` does not name. Default: `"latest"`, with the next message. */
  readonly from?: Start;
  /** Topics of which something was seen before: reading goes on right after these positions. At most 10,000. Default: none. */
  readonly seen?: Readonly<Record<string, Position>>;
  /** Messages that wait for the application before the subscription pauses. Default: 1,000. */
  readonly bufferMessages?: number;
  /** Characters of JSON that wait for the application before the subscription pauses. Default: 4,194,304 (4 Mi). */
  readonly bufferCharacters?: number;
}

/** What a subscription tells besides its messages. */
export interface SubscriptionEvents {
  /** Messages that will not come. */
  lost: Lost;
  /** A topic's log was made anew. */
  reset: Reset;
  /** The application is slower than the topic: the broker was asked to stop (`true`) or to go on (`false`). */
  paused: boolean;
}

/** @internal What the subscription asks of the one that feeds it. */
export interface Feeder {
  /** There is room again. */
  onDrained(subscription: Subscription<unknown>): void;
  onClose(subscription: Subscription<unknown>): void;
}

/** @internal What became of something that was offered. */
export type Taken = "taken" | "full" | "hole" | "too_many";

/**
 * Whether the subscription takes what comes.
 *
 * ```text
 *            buffer full                     half empty again
 *  flowing ──────────────▶ paused ─────────────────────────────▶ switching
 *     ▲  └──── hole ─────────────────────────────────────────────▶   │
 *     └────────── the broker reads on from the place that was reached ┘
 * ```
 *
 * @internal
 */
export type Flow = "flowing" | "paused" | "switching";

const BUFFER_MESSAGES = 1_000;
const BUFFER_CHARACTERS = 4 * 1_024 * 1_024;
/** What a `lost` or a `reset` counts for, in characters. */
const NOTICE_CHARACTERS = 128;

/**
 * A subscription: loop over it with `for await`. Leaving the loop ends the subscription.
 *
 * Every message comes once and in order, whatever happens to the connection. An application that is slower than its topics
 * does not fill the memory: when the buffer is full, the broker is asked to stop, and to go on once the buffer is half
 * empty. On topics with history nothing is lost by that; on topics without, what came meanwhile is told as {@link Lost}.
 */
export class Subscription<T = unknown> implements AsyncIterable<Message<T>> {
  /** The topic or pattern. */
  readonly filter: string;
  /** Resolves when the broker has made the subscription; rejects with the error that ended it before. */
  readonly ready: Promise<void>;

  /** @internal */
  readonly from: Start | undefined;
  /** @internal */
  readonly cursor = new Cursor();
  /** @internal Topics of which nothing was said are to be read from this time on. */
  since: number | undefined;
  /** @internal */
  flow: Flow = "flowing";

  readonly #feeder: Feeder;
  readonly #emitter = new Emitter<SubscriptionEvents>();
  readonly #bufferMessages: number;
  readonly #bufferCharacters: number;
  readonly #buffer: { item: Item<T>; size: number }[] = [];
  /** Where the buffer's oldest item is: shifting an array of thousands for each message would cost. */
  #first = 0;
  /** What counts against the bounds: everything but notices of topics without history, of which there is one per topic. */
  #counted = 0;
  #characters = 0;
  /** Topics without history that sent something: what they send during an interruption is lost. */
  readonly #live = new Set<string>();
  /** What is lost of them and not told yet; `undefined` where nobody counted. */
  readonly #liveLost = new Map<string, number | undefined>();
  /** Those of which a notice waits in the buffer. The next one waits until it was read. */
  readonly #liveNotices = new Set<string>();
  /** Holes that were already asked for again, by the place before them. */
  readonly #repairs = new Map<string, Position>();
  /** Topics that the broker was asked to read from an earlier epoch, for another subscription: its reset is no news here. */
  readonly #resetsForOthers = new Set<string>();
  #waiting: (() => void) | undefined;
  #isIterated = false;
  #isEnded = false;
  #error: BongsuError | undefined;
  #settleReady!: { resolve: () => void; reject: (error: BongsuError) => void };

  /** @internal */
  constructor(filter: string, options: SubscribeOptions, feeder: Feeder) {
    this.filter = filter;
    this.from = options.from;
    this.#feeder = feeder;
    this.#bufferMessages = options.bufferMessages ?? BUFFER_MESSAGES;
    this.#bufferCharacters = options.bufferCharacters ?? BUFFER_CHARACTERS;
    for (const [topic, position] of Object.entries(options.seen ?? {})) this.cursor.start(topic, position);
    if (typeof options.from === "object" && "after" in options.from) this.cursor.start(filter, options.from.after);
    this.ready = new Promise((resolve, reject) => (this.#settleReady = { resolve, reject }));
    // Whoever loops gets the error there; not awaiting `ready` is fine.
    this.ready.catch(() => {});
  }

  /** Adds a listener and returns what removes it again. */
  on<Name extends keyof SubscriptionEvents>(
    name: Name,
    listener: (event: SubscriptionEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  /** The place that was reached on a topic, what waits in the buffer included. To go on in another process: `seen`. */
  position(topic: string = this.filter): Position | undefined {
    return this.cursor.place(topic);
  }

  /** Messages that wait for the application. */
  get buffered(): number {
    return this.#counted;
  }

  /** The messages. There is one loop per subscription. */
  [Symbol.asyncIterator](): AsyncIterator<Message<T>> {
    return this.#messages();
  }

  /** The messages, and in their places what is lost or begins anew. There is one loop per subscription. */
  items(): AsyncIterableIterator<Item<T>> {
    return this.#items();
  }

  /** Ends the subscription and its loop; what still waits in the buffer is dropped. */
  close(): void {
    this.#drop();
    this.end(undefined);
  }

  async *#messages(): AsyncGenerator<Message<T>> {
    for await (const item of this.#items()) {
      if (item.kind === "message") yield item;
    }
  }

  async *#items(): AsyncGenerator<Item<T>> {
    if (this.#isIterated) throw new BongsuError("bad_request", "a subscription has one loop; subscribe again for another");
    this.#isIterated = true;
    try {
      for (;;) {
        const item = this.#shift();
        if (item !== undefined) {
          yield item;
        } else if (this.#isEnded) {
          if (this.#error !== undefined) throw this.#error;
          return;
        } else {
          await new Promise<void>((resolve) => (this.#waiting = resolve));
        }
      }
    } finally {
      this.close();
    }
  }

  /** @internal A message came. `size` is in characters. */
  takeMessage(message: Message, size: number): Taken {
    const { topic, position } = message;
    if (position === undefined) {
      this.#takeLive(message, size);
      return "taken";
    }
    if (this.flow !== "flowing") return this.#leave(topic, position);
    switch (this.cursor.verdict(topic, position)) {
      case "seen":
        return "taken";
      case "hole":
        if (!this.#isRepaired(topic)) return "hole";
        this.#tellHole(topic, position);
        break;
      case "next":
        break;
    }
    if (this.#isTooMany(topic)) return "too_many";
    if (!this.#hasRoom(size)) return this.#leave(topic, position, "full");
    this.#advance(topic, position);
    this.#push(message as Message<T>, size);
    return "taken";
  }

  /** @internal The broker says that messages are lost. */
  takeLost(lost: WireLost): Taken {
    const { topic, epoch, from, until, count } = lost;
    if (until === 0) {
      this.#countLive(topic, count);
      this.#tellLive();
      return "taken";
    }
    if (this.flow !== "flowing") return this.#leave(topic, { epoch, offset: from });
    const verdict = this.cursor.verdictOfLost(topic, epoch, from, until);
    if (verdict === "seen") return "taken";
    if (verdict === "hole" && !this.#isRepaired(topic)) return "hole";
    if (this.#isTooMany(topic)) return "too_many";
    if (!this.#hasRoom(NOTICE_CHARACTERS)) return this.#leave(topic, { epoch, offset: from }, "full");
    // Only what was not seen: a range that was told may begin before the place that was reached, or after a hole.
    const place = this.cursor.place(topic);
    const first = place !== undefined && place.epoch === epoch ? place.offset + 1 : from;
    this.#advance(topic, { epoch, offset: until });
    this.#tell({ kind: "lost", topic, count: until - first + 1, range: { epoch, from: first, until } });
    return "taken";
  }

  /** @internal The broker says that a log was made anew: its word counts, whatever was seen. */
  takeReset(topic: string, epoch: number): Taken {
    if (this.flow !== "flowing") return "taken";
    if (this.#isTooMany(topic)) return "too_many";
    const place = this.cursor.place(topic);
    if (this.#resetsForOthers.delete(topic) && place?.epoch === epoch) return "taken";
    const isNews = place === undefined || place.epoch !== epoch || place.offset !== 0;
    if (isNews && !this.#hasRoom(NOTICE_CHARACTERS)) return "full";
    this.#repairs.delete(topic);
    this.cursor.reset(topic, epoch);
    // Before epoch 1 there was no log, so nothing was made anew.
    if (isNews && place?.epoch !== 0) this.#tell({ kind: "reset", topic, epoch });
    return "taken";
  }

  /** @internal The broker reads for this subscription. */
  made({ since, positions }: Subscribed): void {
    this.since = since;
    for (const [topic, position] of positions) {
      if (this.cursor.size < TOPICS_MAX) this.cursor.start(topic, position);
    }
    this.#settleReady.resolve();
  }

  /** @internal Another subscription with the same filter reads already. */
  join(other: Subscription<unknown>): void {
    this.cursor.copy(other.cursor);
    this.since = other.since;
    if (other.since !== undefined) this.#settleReady.resolve();
  }

  /** @internal All that the broker was asked to read is void. */
  unasked(): void {
    this.#resetsForOthers.clear();
  }

  /** @internal The broker is asked to read these topics from these places, none of which is after what was seen here. */
  asked(places: ReadonlyMap<string, Position>): void {
    for (const [topic, { epoch }] of this.cursor.places()) {
      if ((places.get(topic)?.epoch ?? epoch) < epoch) this.#resetsForOthers.add(topic);
    }
  }

  /** @internal Reading stopped and goes on later. Topics without history may have sent something meanwhile. */
  interrupted(): void {
    for (const topic of this.#live) this.#liveLost.set(topic, undefined);
    this.#tellLive();
  }

  /** @internal What comes from now on belongs to the reading that was asked for last. */
  goOn(): void {
    this.flow = "flowing";
    this.#tellLive();
  }

  /** @internal There is no room: the broker is to stop. */
  pause(): void {
    this.flow = "paused";
    this.#emitter.emit("paused", true);
  }

  /** @internal The broker was asked to go on. */
  unpaused(): void {
    this.#emitter.emit("paused", false);
  }

  /** @internal The same messages were asked for again, from the place before the hole on. */
  repairing(topic: string): void {
    const place = this.cursor.place(topic);
    if (place !== undefined) this.#repairs.set(topic, place);
  }

  /** @internal Nothing more comes. The loop reads what is buffered, then throws the error, if there is one. */
  end(error: BongsuError | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#error = error;
    this.#settleReady.reject(error ?? new BongsuError("closed", "the subscription was closed"));
    this.#wake();
    this.#feeder.onClose(this);
  }

  /**
   * Leaves something for later. Where it is the first of its topic, its place is noted: another subscription may take it, and
   * what all have in common goes on after the earliest place that is known.
   */
  #leave(topic: string, { epoch, offset }: Position, taken: Taken = "taken"): Taken {
    if (this.#isTooMany(topic)) return "too_many";
    this.cursor.start(topic, { epoch, offset: offset - 1 });
    return taken;
  }

  #isTooMany(topic: string): boolean {
    return this.cursor.size >= TOPICS_MAX && this.cursor.place(topic) === undefined;
  }

  #takeLive(message: Message, size: number): void {
    const { topic } = message;
    if (this.#live.size < TOPICS_MAX) this.#live.add(topic);
    if (this.flow === "flowing" && this.#hasRoom(size)) {
      this.#tellLive();
      // What is lost is told before what comes after it.
      if (!this.#liveLost.has(topic)) return this.#push(message as Message<T>, size);
    }
    this.#countLive(topic, 1);
  }

  #countLive(topic: string, count: number): void {
    const before = this.#liveLost.has(topic) ? this.#liveLost.get(topic) : 0;
    this.#liveLost.set(topic, before === undefined ? undefined : before + count);
  }

  /**
   * Tells what was lost of topics without history. These notices do not count against the bounds: pausing and going on makes
   * one for each such topic, so that a small buffer could be filled by them alone, again and again.
   */
  #tellLive(): void {
    for (const [topic, count] of this.#liveLost) {
      if (this.#liveNotices.has(topic)) continue;
      this.#liveLost.delete(topic);
      this.#liveNotices.add(topic);
      this.#tell({ kind: "lost", topic, count, range: undefined });
    }
  }

  /** Whether the hole after this topic's place was asked for again already, and is still there. */
  #isRepaired(topic: string): boolean {
    const place = this.cursor.place(topic);
    const repair = this.#repairs.get(topic);
    return place !== undefined && repair?.epoch === place.epoch && repair.offset === place.offset;
  }

  /** The broker does not have what is missing, and did not say so: this client says it. */
  #tellHole(topic: string, { epoch, offset }: Position): void {
    const place = this.cursor.place(topic);
    this.#repairs.delete(topic);
    if (place !== undefined && place.epoch === epoch) {
      const range = { epoch, from: place.offset + 1, until: offset - 1 };
      this.#tell({ kind: "lost", topic, count: range.until - range.from + 1, range });
    } else {
      this.#tell({ kind: "reset", topic, epoch });
    }
    this.cursor.reset(topic, epoch);
  }

  #advance(topic: string, position: Position): void {
    this.cursor.advance(topic, position);
    if (this.#repairs.size > 0) this.#repairs.delete(topic);
  }

  #tell(notice: Lost | Reset): void {
    this.#push(notice, NOTICE_CHARACTERS);
    if (notice.kind === "lost") this.#emitter.emit("lost", notice);
    else this.#emitter.emit("reset", notice);
  }

  #hasRoom(size: number): boolean {
    if (this.#counted === 0) return true;
    return this.#counted < this.#bufferMessages && this.#characters + size <= this.#bufferCharacters;
  }

  #push(item: Item<T>, size: number): void {
    if (this.#isEnded) return;
    this.#buffer.push({ item, size });
    if (!isLiveNotice(item)) {
      this.#counted += 1;
      this.#characters += size;
    }
    this.#wake();
  }

  #shift(): Item<T> | undefined {
    const entry = this.#buffer[this.#first];
    if (entry === undefined) return undefined;
    const { item, size } = entry;
    this.#first += 1;
    if (this.#first === this.#buffer.length || this.#first >= 1_024) {
      this.#buffer.splice(0, this.#first);
      this.#first = 0;
    }
    if (isLiveNotice(item)) {
      this.#liveNotices.delete(item.topic);
    } else {
      this.#counted -= 1;
      this.#characters -= size;
    }
    if (this.#liveLost.size > 0 && this.#hasRoom(0)) this.#tellLive();
    if (this.flow === "paused" && this.isHalfEmpty()) this.#feeder.onDrained(this as Subscription<unknown>);
    return item;
  }

  /** @internal Whether a paused subscription should go on: half of the buffer hides the way to the broker and back. */
  isHalfEmpty(): boolean {
    return this.#counted <= this.#bufferMessages / 2 && this.#characters <= this.#bufferCharacters / 2;
  }

  #drop(): void {
    this.#buffer.length = 0;
    this.#first = 0;
    this.#counted = 0;
    this.#characters = 0;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }
}

function isLiveNotice(item: Item): boolean {
  return item.kind === "lost" && item.range === undefined;
}
