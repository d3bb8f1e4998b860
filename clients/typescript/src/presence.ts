// Who is present on a topic.

import type { Subscription } from "./subscription.js";
import type { Member, Members, Message } from "./types.js";
import { decodeMember, object } from "./wire.js";

/** Somebody came, shows something new of itself, or went. */
export type PresenceChange<Info = unknown> =
  | { readonly kind: "joined"; readonly member: Member<Info> }
  | { readonly kind: "left"; readonly session: string };

/** @internal What a client does for its presences. */
export interface PresenceClient {
  enter(topic: string, info: unknown): Promise<void>;
  leave(topic: string): Promise<void>;
  members(topic: string): Promise<Members>;
  subscribe(filter: string): Subscription;
}

/** The members of one topic. */
export class Presence<Info = unknown> {
  readonly topic: string;
  readonly #client: PresenceClient;

  /** @internal */
  constructor(topic: string, client: PresenceClient) {
    this.topic = topic;
    this.#client = client;
  }

  /**
   * Makes this client a member, or replaces what it shows of itself: any JSON value of at most 1 KiB. Membership ends with
   * the connection, so the client enters again on each new one, until it leaves.
   */
  enter(info?: Info): Promise<void> {
    return this.#client.enter(this.topic, info ?? null);
  }

  /** Ends this client's membership. */
  leave(): Promise<void> {
    return this.#client.leave(this.topic);
  }

  /** Asks who is present. */
  members(): Promise<Members<Info>> {
    return this.#client.members(this.topic) as Promise<Members<Info>>;
  }

  /**
   * Watches who comes and goes. Changes are not kept: after a `lost`, ask for {@link members} again.
   */
  watch(): PresenceWatch<Info> {
    return new PresenceWatch(this.#client.subscribe(`$presence/${this.topic}`));
  }
}

/** A watch of who comes and goes: loop over it with `for await`. Leaving the loop ends the watch. */
export class PresenceWatch<Info = unknown> implements AsyncIterable<PresenceChange<Info>> {
  /** What carries the changes: its `lost` event and its `ready` are of interest. */
  readonly subscription: Subscription;

  /** @internal */
  constructor(subscription: Subscription) {
    this.subscription = subscription;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<PresenceChange<Info>> {
    for await (const message of this.subscription) {
      const change = decodeChange(message);
      if (change !== undefined) yield change as PresenceChange<Info>;
    }
  }

  /** Ends the watch and its loop. */
  close(): void {
    this.subscription.close();
  }
}

/** A change that this client does not know is skipped. */
function decodeChange(message: Message): PresenceChange | undefined {
  const data = object(message.data, "presence");
  if (data["join"] !== undefined) return { kind: "joined", member: decodeMember(data["join"]) };
  if (data["leave"] !== undefined) return { kind: "left", session: decodeMember(data["leave"]).session };
  return undefined;
}
