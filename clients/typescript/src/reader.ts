// Keeps what the broker reads for this client in step with the application's subscriptions.
//
// A connection reads each topic once, however many of its subscriptions match it; where they overlap, the first to reach a
// topic decides where reading starts. So subscriptions that could meet on a topic are moved together: to read on from an
// earlier place (after a hole or a pause) all of them are ended and made again, from the earliest place that one of them
// needs, and each drops what it has seen. Between the two, nothing is taken.
//
// A paused subscription that could meet no other is ended at the broker meanwhile. One that could stays: what passes by shows
// it the places of topics that it has not seen, without which nobody could tell from where all of them must go on.

import type { Connection } from "./connection.js";
import { comparePositions, TOPICS_MAX } from "./cursor.js";
import type { Environment, Timer } from "./environment.js";
import { BongsuError } from "./error.js";
import { isPattern, matches, overlaps } from "./filter.js";
import { exceeds } from "./outbox.js";
import { Subscription, type Feeder, type SubscribeOptions, type Taken } from "./subscription.js";
import type { Position, Start } from "./types.js";
import {
  FILTERS_PER_REQUEST_MAX,
  decodeResults,
  decodeSubscribed,
  encodeSubscription,
  type NewSubscription,
  type Reply,
  type ServerEvent,
  type Subscribed,
} from "./wire.js";

/** What the broker is to read: one per filter, however many subscriptions share it. */
interface Feed {
  readonly filter: string;
  readonly subscriptions: Set<Subscription>;
  /**
   * What the broker does about it on this connection: nothing, or it was asked and has not answered, or it reads. While it
   * has not answered, nothing else is asked: its answer says since when it reads, which is what makes stopping safe.
   */
  state: "idle" | "asking" | "reading";
  /** Waits to ask again, after an error that may pass. */
  retry: Timer;
}

export interface ReaderOptions {
  readonly requestTimeoutMs: number;
  /** Milliseconds before asking again for a subscription that failed for now, unless the broker says. */
  readonly retryMs: number;
  readonly refreshToken: () => Promise<void>;
}

export class Reader implements Feeder {
  readonly #environment: Environment;
  readonly #options: ReaderOptions;
  /** Feeds of single topics, by topic, and of patterns: a message looks up the one and tries the others. */
  readonly #single = new Map<string, Feed>();
  readonly #patterns = new Map<string, Feed>();
  #connection: Connection | undefined;
  #frameBytesMax = Infinity;
  /** Feeds to be moved when the present frame is done. */
  readonly #toMove = new Set<Feed>();
  /** Feeds to be asked for when the present turn of the event loop is done. */
  readonly #askSoon = new Set<Feed>();
  /** New feeds that wait until older ones are read again, which must not start where a new one wants. */
  readonly #askLater = new Set<Feed>();
  /** Feeds whose token was refused, until the next one. */
  readonly #refused = new WeakSet<Feed>();

  constructor(environment: Environment, options: ReaderOptions) {
    this.#environment = environment;
    this.#options = options;
  }

  subscribe(filter: string, options: SubscribeOptions): Subscription {
    const subscription = new Subscription(filter, options, this);
    const feeds = isPattern(filter) ? this.#patterns : this.#single;
    let feed = feeds.get(filter);
    if (feed === undefined) {
      feed = { filter, subscriptions: new Set(), state: "idle", retry: undefined };
      feeds.set(filter, feed);
    }
    const sibling = [...feed.subscriptions].find(({ flow }) => flow === "flowing");
    feed.subscriptions.add(subscription);
    if (sibling !== undefined) subscription.join(sibling);
    else if (feed.subscriptions.size > 1) this.#moveSoon(feed);
    // Those that were ended because they were alone are not alone any more.
    for (const other of this.#overlapping(feed)) if (other.state === "idle") this.#moveSoon(other);
    if (feed.state === "idle" && this.#connection !== undefined && !this.#toMove.has(feed) && !this.#askLater.has(feed)) {
      // Soon: subscriptions that are made together are asked for together.
      this.#askSoon.add(feed);
      if (this.#askSoon.size === 1) queueMicrotask(() => this.#askNew());
    }
    return subscription;
  }

  /** There is a connection: everything is subscribed again, from where it was. */
  attach(connection: Connection, frameBytesMax: number): void {
    this.#connection = connection;
    this.#frameBytesMax = frameBytesMax > 0 ? frameBytesMax : Infinity;
    const feeds = this.#feeds();
    for (const subscription of subscriptionsOf(feeds)) {
      subscription.unasked();
      if (subscription.flow === "switching") subscription.goOn();
    }
    this.#ask(feeds);
  }

  /** The connection is gone. */
  detach(): void {
    this.#connection = undefined;
    this.#toMove.clear();
    this.#askSoon.clear();
    this.#askLater.clear();
    for (const feed of this.#feeds()) {
      feed.state = "idle";
      this.#environment.clearTimer(feed.retry);
      for (const subscription of feed.subscriptions) subscription.interrupted();
    }
  }

  /** Nothing is read any more. */
  endAll(error: BongsuError | undefined): void {
    for (const feed of this.#feeds()) this.#endFeed(feed, error);
  }

  onEvent(event: ServerEvent, size: number): void {
    switch (event.kind) {
      case "delivery":
        return this.#offer(event.message.topic, (subscription) => subscription.takeMessage(event.message, size));
      case "lost":
        return this.#offer(event.lost.topic, (subscription) => subscription.takeLost(event.lost));
      case "reset":
        return this.#offer(event.topic, (subscription) => subscription.takeReset(event.topic, event.epoch));
      case "unsubscribed": {
        const feed = this.#single.get(event.filter) ?? this.#patterns.get(event.filter);
        if (feed !== undefined) this.#failed(feed, event.error);
        return;
      }
      default:
        return;
    }
  }

  /** A paused subscription has room again. */
  onDrained(subscription: Subscription): void {
    const feed = this.#feedOf(subscription);
    if (feed === undefined) return;
    subscription.flow = "switching";
    subscription.unpaused();
    this.#moveSoon(feed);
  }

  onClose(subscription: Subscription): void {
    const feed = this.#feedOf(subscription);
    if (feed?.subscriptions.delete(subscription)) this.#stopIfIdle(feed);
  }

  #offer(topic: string, take: (subscription: Subscription) => Taken): void {
    const single = this.#single.get(topic);
    if (single !== undefined) this.#offerTo(single, topic, take);
    for (const feed of this.#patterns.values()) {
      if (matches(feed.filter, topic)) this.#offerTo(feed, topic, take);
    }
  }

  #offerTo(feed: Feed, topic: string, take: (subscription: Subscription) => Taken): void {
    for (const subscription of feed.subscriptions) {
      switch (take(subscription)) {
        case "taken":
          break;
        case "hole":
          subscription.repairing(topic);
          subscription.flow = "switching";
          this.#moveSoon(feed);
          break;
        case "full":
          subscription.pause();
          this.#stopIfIdle(feed);
          break;
        case "too_many":
          subscription.end(
            new BongsuError("too_many", `more than ${TOPICS_MAX} topics match ${feed.filter}; subscribe to narrower filters`),
          );
          break;
      }
    }
  }

  /** Ends the broker's reading where nobody takes what it reads. */
  #stopIfIdle(feed: Feed): void {
    const { filter, subscriptions } = feed;
    if (this.#takersOf(feed).length > 0) return;
    if (subscriptions.size === 0) {
      this.#environment.clearTimer(feed.retry);
      this.#toMove.delete(feed);
      this.#askSoon.delete(feed);
      this.#askLater.delete(feed);
      (isPattern(filter) ? this.#patterns : this.#single).delete(filter);
    }
    if (feed.state === "idle" || (feed.state === "asking" && subscriptions.size > 0)) return;
    feed.state = "idle";
    this.#connection?.ask({ unsubscribe: { filters: [filter] } }, this.#options.requestTimeoutMs, () => {});
  }

  #askNew(): void {
    const feeds = [...this.#askSoon];
    this.#askSoon.clear();
    if (feeds.length > 0) this.#ask(feeds);
  }

  #moveSoon(feed: Feed): void {
    if (this.#connection === undefined) return;
    this.#toMove.add(feed);
    if (this.#toMove.size === 1) queueMicrotask(() => this.#move());
  }

  /** Has the broker read on from the earliest place that one of the subscriptions needs. */
  #move(): void {
    const connection = this.#connection;
    if (connection === undefined || this.#toMove.size === 0) return;
    const feeds = this.#withOverlapping(this.#toMove);
    // The answer to what was asked comes back here.
    if (feeds.some(({ state }) => state === "asking")) return;
    this.#toMove.clear();
    for (const feed of feeds) {
      this.#askSoon.delete(feed);
      this.#askLater.delete(feed);
    }
    for (const subscription of subscriptionsOf(feeds)) subscription.unasked();
    const moving = subscriptionsOf(feeds).filter(({ flow }) => flow !== "paused");
    for (const subscription of moving) {
      subscription.flow = "switching";
      subscription.interrupted();
    }
    const filters = feeds.map(({ filter }) => filter);
    const { requestTimeoutMs } = this.#options;
    inPieces(filters, FILTERS_PER_REQUEST_MAX).forEach((piece, i, { length }) => {
      connection.ask({ unsubscribe: { filters: piece } }, requestTimeoutMs, () => {
        // What came before this belongs to the reading that ended; what comes after, to the new one.
        if (i + 1 < length) return;
        for (const subscription of moving) {
          if (subscription.flow === "switching") subscription.goOn();
        }
      });
    });
    this.#ask(feeds);
  }

  /** The given feeds, and all that could meet one of them on a topic, directly or by others. */
  #withOverlapping(feeds: Iterable<Feed>): Feed[] {
    const found = new Set(feeds);
    const others = new Set(this.#feeds().filter((feed) => !found.has(feed)));
    for (const feed of found) {
      for (const other of this.#overlapping(feed)) {
        if (others.delete(other)) found.add(other);
      }
    }
    return [...found];
  }

  /** The other feeds that could meet this one on a topic. */
  #overlapping(feed: Feed): Feed[] {
    // Single topics meet patterns only; a subscriber of a thousand topics is not compared with itself.
    const candidates = isPattern(feed.filter) ? this.#feeds() : [...this.#patterns.values()];
    return candidates.filter((other) => other !== feed && overlaps(feed.filter, other.filter));
  }

  /** The subscriptions for which the broker is to read. */
  #takersOf(feed: Feed): Subscription[] {
    const subscriptions = [...feed.subscriptions];
    const [only] = subscriptions;
    if (subscriptions.length > 1 || only?.flow !== "paused") return subscriptions;
    return this.#overlapping(feed).length > 0 ? subscriptions : [];
  }

  /** Subscribes to what somebody takes, in as few requests as fit. */
  #ask(feeds: readonly Feed[]): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    const older = feeds.filter(({ subscriptions }) => [...subscriptions].some(({ since }) => since !== undefined));
    if (older.length > 0 && older.length < feeds.length) {
      const floor = lowestPlaces(older.flatMap((feed) => this.#takersOf(feed)));
      for (const feed of feeds) {
        if (older.includes(feed)) continue;
        this.#askLater.add(feed);
        // They get what is read for the others.
        for (const subscription of feed.subscriptions) subscription.asked(floor);
      }
      this.#ask(older);
      this.#askRest();
      return;
    }
    const floor = lowestPlaces(feeds.flatMap((feed) => this.#takersOf(feed)));
    let batch: { feed: Feed; takers: Subscription[]; text: string }[] = [];
    let characters = 0;
    const flush = (): void => {
      const asked = batch;
      if (asked.length > 0) this.#send(connection, asked);
      batch = [];
      characters = 0;
    };
    for (const feed of feeds) {
      const takers = this.#takersOf(feed);
      feed.state = takers.length > 0 ? "asking" : "idle";
      if (takers.length === 0) continue;
      for (const subscription of takers) subscription.asked(floor);
      const text = JSON.stringify(encodeSubscription(resumption(feed.filter, takers, floor)));
      if (exceeds(text, this.#frameBytesMax)) {
        feed.state = "idle";
        const { size } = floor;
        this.#endFeed(feed, new BongsuError("too_many", `${size} topics do not fit into a frame; use narrower filters`));
        continue;
      }
      if (batch.length === FILTERS_PER_REQUEST_MAX || exceeds(text, this.#frameBytesMax - 3 * characters)) flush();
      batch.push({ feed, takers, text });
      characters += text.length + 1;
    }
    flush();
  }

  #askRest(): void {
    if (this.#askLater.size === 0 || this.#feeds().some(({ state }) => state === "asking")) return;
    const feeds = [...this.#askLater];
    this.#askLater.clear();
    this.#ask(feeds);
  }

  #send(connection: Connection, asked: readonly { feed: Feed; takers: Subscription[]; text: string }[]): void {
    const subscriptions = asked.map(({ text }) => text).join(",");
    connection.askText(`{"subscribe":{"subscriptions":[${subscriptions}]}}`, this.#options.requestTimeoutMs, (reply) => {
      const results = resultsOf(reply, asked.length);
      asked.forEach(({ feed, takers }, i) => {
        const result = results[i] as Subscribed | BongsuError;
        if (feed.subscriptions.size === 0) return;
        if (result instanceof BongsuError) return this.#failed(feed, result);
        feed.state = "reading";
        this.#refused.delete(feed);
        // Those that joined since then wait for the same answer.
        const joined = [...feed.subscriptions].filter(({ since }) => since === undefined);
        for (const subscription of new Set([...takers, ...joined])) subscription.made(result);
        this.#stopIfIdle(feed);
      });
      this.#askRest();
      if (this.#toMove.size > 0) this.#move();
    });
  }

  /** The broker does not read this feed, or not any more. */
  #failed(feed: Feed, error: BongsuError): void {
    feed.state = "idle";
    for (const subscription of feed.subscriptions) subscription.interrupted();
    if (error.code === "unauthenticated" && !this.#refused.has(feed)) {
      this.#refused.add(feed);
      const connection = this.#connection;
      this.#options.refreshToken().then(
        () => this.#askAgain(feed),
        () => {
          // If the connection is gone, the next one has a new token, and everything is asked for again there.
          if (connection === this.#connection) this.#endFeed(feed, error);
        },
      );
    } else if (error.retryable) {
      const delayMs = error.retryAfterMs ?? this.#options.retryMs;
      const spreadMs = Math.round(delayMs * (1 + this.#environment.random() / 2));
      this.#environment.clearTimer(feed.retry);
      feed.retry = this.#environment.setTimer(spreadMs, () => this.#askAgain(feed));
    } else {
      this.#endFeed(feed, error);
    }
  }

  #askAgain(feed: Feed): void {
    if (feed.subscriptions.size > 0 && feed.state === "idle") this.#moveSoon(feed);
  }

  #endFeed(feed: Feed, error: BongsuError | undefined): void {
    for (const subscription of [...feed.subscriptions]) subscription.end(error);
  }

  #feeds(): Feed[] {
    return [...this.#single.values(), ...this.#patterns.values()];
  }

  #feedOf({ filter }: Subscription): Feed | undefined {
    return this.#single.get(filter) ?? this.#patterns.get(filter);
  }
}

function subscriptionsOf(feeds: readonly Feed[]): Subscription[] {
  return feeds.flatMap(({ subscriptions }) => [...subscriptions]);
}

/** For each topic, the earliest place that one of these has reached. */
function lowestPlaces(subscriptions: readonly Subscription[]): Map<string, Position> {
  const lowest = new Map<string, Position>();
  for (const { cursor } of subscriptions) {
    for (const [topic, place] of cursor.places()) {
      const other = lowest.get(topic);
      if (other === undefined || comparePositions(place, other) < 0) lowest.set(topic, place);
    }
  }
  return lowest;
}

/**
 * How these go on. Topics with a known place are read from there; all others from the time since which the subscription
 * stands, or, as long as the broker has not said it, from where the application wanted.
 */
function resumption(filter: string, takers: readonly Subscription[], floor: Map<string, Position>): NewSubscription {
  if (!isPattern(filter)) {
    const place = floor.get(filter);
    return { filter, from: place === undefined ? startOf(takers) : { after: place } };
  }
  const seen = [...floor].filter(([topic]) => matches(filter, topic)).slice(0, TOPICS_MAX);
  return { filter, from: startOf(takers), seen };
}

/** Where reading starts on topics without a known place. A subscription that reads already must not miss any for a new one. */
function startOf(takers: readonly Subscription[]): Start | undefined {
  const times = takers.flatMap(({ since }) => (since === undefined ? [] : [since]));
  return times.length > 0 ? { time: Math.min(...times) } : takers[0]?.from;
}

function resultsOf(reply: Reply, count: number): (Subscribed | BongsuError)[] {
  if (reply.error !== undefined) return Array.from({ length: count }, () => reply.error as BongsuError);
  const results = decodeResults(reply.body["subscribed"], "subscribed", decodeSubscribed);
  if (results.length !== count) throw new TypeError(`${results.length} results for ${count} subscriptions`);
  return results;
}

function inPieces<T>(list: readonly T[], size: number): T[][] {
  const pieces: T[][] = [];
  for (let at = 0; at < list.length; at += size) pieces.push(list.slice(at, at + size));
  return pieces;
}
