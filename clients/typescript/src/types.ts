// The nouns of the client, as applications see them.

/** A place in one incarnation of a topic's log. */
export interface Position {
  /** The log's incarnation: larger for each new log of the same topic. 0 before there was one. */
  readonly epoch: number;
  /** 1 for the first message, without holes. 0 is the place before the first. */
  readonly offset: number;
}

/**
 * Where reading starts: with the next message (`"latest"`), with the oldest kept message (`"earliest"`), with the newest
 * n messages, after a position (a single topic only), or with the first message of a time (milliseconds since 1970) or later.
 */
export type Start =
  | "latest"
  | "earliest"
  | { readonly last: number }
  | { readonly after: Position }
  | { readonly time: number };

/** A message. */
export interface Message<T = unknown> {
  readonly kind: "message";
  readonly topic: string;
  /** Its place in the topic's log; `undefined` on topics that keep no history. */
  readonly position: Position | undefined;
  /** `position.offset`, for short. */
  readonly offset: number | undefined;
  /** When the broker took it, milliseconds since 1970. */
  readonly time: number;
  /** The subject of the publisher's token; empty: anonymous. */
  readonly publisher: string;
  /** The payload: a JSON value, a string (text) or a `Uint8Array` (anything else); see `contentType`. */
  readonly data: T;
  /** The media type; empty where the publisher gave none. */
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The publisher's idempotency key; empty: none. */
  readonly id: string;
  /** The message was erased: `data` is `undefined`, its place stays. */
  readonly erased: boolean;
}

/** Messages that will not come. Never silent: whatever is missing is told by one of these. */
export interface Lost {
  readonly kind: "lost";
  readonly topic: string;
  /**
   * How many; `undefined` where nobody counted: a topic that keeps no history, while the connection was down or the
   * subscription was paused.
   */
  readonly count: number | undefined;
  /** On topics with history: the first and last position that retention or a purge took. */
  readonly range: { readonly epoch: number; readonly from: number; readonly until: number } | undefined;
}

/** The topic's log was made anew: earlier positions mean nothing any more. What follows is the new log from its start. */
export interface Reset {
  readonly kind: "reset";
  readonly topic: string;
  /** The new log's epoch. */
  readonly epoch: number;
}

/** Everything that a subscription can yield, in order; tell them apart by `kind`. */
export type Item<T = unknown> = Message<T> | Lost | Reset;

/** What came of a publish. On a topic with history, the message is committed. */
export interface Published {
  /** The message's place; `undefined` on topics that keep no history. */
  readonly position: Position | undefined;
  /** A message with this id was there already, at this position. */
  readonly duplicate: boolean;
  /** The message's idempotency key. */
  readonly id: string;
}

/** A page of a topic's log. */
export interface Page<T = unknown> {
  /** In the order asked for. */
  readonly messages: readonly Message<T>[];
  /** The oldest kept message's place; one after `head` if none is kept. */
  readonly first: Position;
  /** The newest message's place; offset 0 if there never was one. */
  readonly head: Position;
  /** The log goes on behind the page's last message, in the direction asked for. */
  readonly more: boolean;
  /** Reads on in the same direction; `undefined` at the log's end. */
  next(): Promise<Page<T> | undefined>;
}

/** Somebody present on a topic. */
export interface Member<Info = unknown> {
  /** The session that entered. */
  readonly session: string;
  /** Its token's subject; empty: anonymous. */
  readonly subject: string;
  /** What it shows of itself. */
  readonly info: Info;
  /** Since when, milliseconds since 1970. */
  readonly since: number;
}

/** Who is present. */
export interface Members<Info = unknown> {
  /** At most 1,000, longest present first. */
  readonly members: readonly Member<Info>[];
  /** How many there are. */
  readonly total: number;
}

/** What a client should know of its connection. */
export interface Session {
  /** This session's name, unique among all nodes; a new connection is a new session. */
  readonly session: string;
  /** The node's name. */
  readonly node: string;
  /** Who the broker takes this client for; empty: anonymous. */
  readonly subject: string;
  /** Milliseconds: the broker sends at least this often. */
  readonly heartbeatMs: number;
  /** Bytes of the largest frame that the broker takes. */
  readonly frameBytesMax: number;
}
