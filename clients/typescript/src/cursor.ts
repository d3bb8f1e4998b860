// What a reader has seen, topic by topic, and what a message that comes next means for it. Pure.

import type { Position } from "./types.js";

/** Topics that one subscription can follow: the protocol's bound of `seen`. */
export const TOPICS_MAX = 10_000;

/**
 * What a position is to a reader: `next` in order, `seen` before, or behind a `hole`, where messages are missing of which
 * nobody said that they are lost.
 */
export type Verdict = "next" | "seen" | "hole";

interface Place extends Position {
  /** A log made anew starts with its oldest kept message, whatever its offset. */
  readonly anyOffset: boolean;
}

/**
 * The places that a subscription has reached.
 *
 * ```text
 *            start(p)                 advance(p)
 *  unknown ───────────▶ at p ───────────────────────▶ at p'   verdict(p'): next, if p' follows p
 *     │                  ▲  │  reset(e)
 *     │ advance(p)       │  ▼                                 verdict(p'): seen, if p' <= p
 *     └──────────────────┴── at the start of epoch e          verdict(p'): hole, otherwise
 * ```
 *
 * Judging and advancing are apart, since a message that was judged may still find no room.
 */
export class Cursor {
  readonly #places = new Map<string, Place>();

  get size(): number {
    return this.#places.size;
  }

  /** How a message at `position` relates to what was seen. On a topic without a place, anything is next. */
  verdict(topic: string, position: Position): Verdict {
    const place = this.#places.get(topic);
    if (place === undefined) return "next";
    if (position.epoch !== place.epoch) {
      if (position.epoch < place.epoch) return "seen";
      // Epoch 0 is the time before the topic's first message, so that message follows it.
      return place.epoch === 0 && position.offset === 1 ? "next" : "hole";
    }
    if (place.anyOffset || position.offset === place.offset + 1) return "next";
    return position.offset <= place.offset ? "seen" : "hole";
  }

  /** How the loss of the offsets up to `until` relates to what was seen. */
  verdictOfLost(topic: string, epoch: number, from: number, until: number): Verdict {
    const place = this.#places.get(topic);
    if (place === undefined) return "next";
    if (epoch !== place.epoch) {
      if (epoch < place.epoch) return "seen";
      return place.epoch === 0 && from === 1 ? "next" : "hole";
    }
    if (place.anyOffset) return "next";
    if (until <= place.offset) return "seen";
    return from <= place.offset + 1 ? "next" : "hole";
  }

  /** Whether a log of this epoch is news, and so makes every place in an earlier one void. */
  isNewEpoch(topic: string, epoch: number): boolean {
    const place = this.#places.get(topic);
    return place === undefined || epoch > place.epoch;
  }

  /** The reader has seen everything up to here, or was told that it is lost. */
  advance(topic: string, { epoch, offset }: Position): void {
    this.#places.set(topic, { epoch, offset, anyOffset: false });
  }

  /** Reading starts after here, if nothing came of the topic yet: a delivery that overtook the broker's word counts more. */
  start(topic: string, position: Position): void {
    if (!this.#places.has(topic)) this.advance(topic, position);
  }

  /** The topic has a new log. */
  reset(topic: string, epoch: number): void {
    this.#places.set(topic, { epoch, offset: 0, anyOffset: true });
  }

  place(topic: string): Position | undefined {
    const place = this.#places.get(topic);
    return place && { epoch: place.epoch, offset: place.offset };
  }

  places(): IterableIterator<[string, Position]> {
    return this.#places.entries();
  }

  /** Takes over what another has seen. */
  copy(other: Cursor): void {
    for (const [topic, place] of other.#places) this.#places.set(topic, place);
  }
}

/** Negative, zero or positive, as `one` is before, at or after `other`. */
export function comparePositions(one: Position, other: Position): number {
  return one.epoch - other.epoch || one.offset - other.offset;
}
