// One connection: a socket, the requests that wait for an answer on it, and the watch that it is alive.

import type { Environment, Timer } from "./environment.js";
import { BongsuError } from "./error.js";
import type { Session } from "./types.js";
import {
  REQUESTS_PER_FRAME_MAX,
  SUB_PROTOCOL,
  decodeFrame,
  type Command,
  type Goodbye,
  type Reply,
  type ServerEvent,
} from "./wire.js";

/** The part of a WebSocket that the client needs: browsers, Node.js and `ws` all have it. */
export interface WebSocketLike {
  addEventListener(type: string, listener: (event: never) => void): void;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** A constructor of such a WebSocket. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => unknown;

/** Why a connection ended. */
export interface Ending {
  /** What the broker said before, if it said anything. */
  readonly goodbye: Goodbye | undefined;
  /** The WebSocket close code; 1006 where there was none. */
  readonly code: number;
  /** For people. */
  readonly text: string;
}

export interface ConnectionHandlers {
  /** The broker introduced itself. */
  onWelcome(session: Session): void;
  /** Anything that is not a reply. `size` is the event's share of its frame's characters. */
  onEvent(event: ServerEvent, size: number): void;
  /** Once, and nothing comes after it. */
  onEnd(ending: Ending): void;
}

/** A request whose command is JSON already. */
export interface Outgoing {
  readonly text: string;
  /** Never called if the connection ends first. */
  readonly onReply: (reply: Reply) => void;
}

/** Characters of one frame of several requests; the broker's own bound is far above. */
const BATCH_CHARACTERS = 256 * 1_024;

export class Connection {
  readonly #environment: Environment;
  readonly #handlers: ConnectionHandlers;
  readonly #socket: WebSocketLike;
  readonly #pending = new Map<number, (reply: Reply) => void>();
  /** Of the client's own requests that wait for their reply. */
  readonly #asked = new Set<{ timer: Timer }>();
  #nextId = 1;
  #goodbye: Goodbye | undefined;
  #lastHeardMs: number;
  /** When something other than a heartbeat came. */
  #lastEventMs: number;
  #silenceMaxMs = Infinity;
  #watchdog: Timer;
  #ended = false;

  /** Throws what the WebSocket's constructor throws. */
  constructor(
    url: string,
    WebSocket: WebSocketConstructor,
    environment: Environment,
    handlers: ConnectionHandlers,
    onSocketOpen: () => void,
  ) {
    this.#environment = environment;
    this.#handlers = handlers;
    this.#lastHeardMs = environment.now();
    this.#lastEventMs = this.#lastHeardMs;
    this.#socket = new WebSocket(url, [SUB_PROTOCOL]) as WebSocketLike;
    this.#socket.addEventListener("open", () => {
      if (!this.#ended) onSocketOpen();
    });
    this.#socket.addEventListener("message", (event: { data: unknown }) => this.#handleFrame(event.data));
    this.#socket.addEventListener("error", () => {
      // The close event that follows says all that is known.
    });
    this.#socket.addEventListener("close", (event: { code?: number; reason?: string }) => {
      this.#end({ goodbye: this.#goodbye, code: event.code ?? 1006, text: event.reason ?? "" });
    });
  }

  /** How long nothing was heard. */
  silenceMs(): number {
    return this.#environment.now() - this.#lastHeardMs;
  }

  /** Sends requests, in order, in as few frames as fit. Returns their ids. */
  send(requests: readonly Outgoing[]): number[] {
    if (this.#ended) return [];
    const ids: number[] = [];
    let frame: string[] = [];
    let characters = 0;
    const flush = (): void => {
      if (frame.length > 0) this.#socket.send(frame.length === 1 ? (frame[0] as string) : `[${frame.join(",")}]`);
      frame = [];
      characters = 0;
    };
    for (const { text, onReply } of requests) {
      const id = this.#nextId++;
      this.#pending.set(id, onReply);
      ids.push(id);
      if (frame.length === REQUESTS_PER_FRAME_MAX || characters + text.length > BATCH_CHARACTERS) flush();
      const request = `{"id":${id},${text.slice(1)}`;
      frame.push(request);
      characters += request.length;
    }
    flush();
    return ids;
  }

  /**
   * Sends one request of the client itself. If neither its answer nor any other event comes in time, the connection is dead.
   * Other events count, since on a slow line the answer may have a long queue of messages before it.
   */
  ask(command: Command, timeoutMs: number, onReply: (reply: Reply) => void): void {
    this.askText(JSON.stringify(command), timeoutMs, onReply);
  }

  /** The same with a command that is JSON already. */
  askText(text: string, timeoutMs: number, onReply: (reply: Reply) => void): void {
    if (this.#ended) return;
    const entry: { timer: Timer } = { timer: undefined };
    const watch = (leftMs: number): void => {
      entry.timer = this.#environment.setTimer(leftMs, () => {
        const quietMs = this.#environment.now() - this.#lastEventMs;
        if (quietMs < timeoutMs) watch(timeoutMs - quietMs);
        else this.drop(`no reply within ${timeoutMs} ms`);
      });
    };
    watch(timeoutMs);
    this.#asked.add(entry);
    this.send([
      {
        text,
        onReply: (reply) => {
          this.#environment.clearTimer(entry.timer);
          this.#asked.delete(entry);
          onReply(reply);
        },
      },
    ]);
  }

  /** The reply to this request matters to nobody any more. */
  forget(id: number): void {
    this.#pending.delete(id);
  }

  /** Takes the connection for dead, without waiting for the other side. */
  drop(text: string): void {
    this.#close(4000, text);
    this.#end({ goodbye: this.#goodbye, code: 1006, text });
  }

  /** Says goodbye in the ordinary way; nothing is heard of it any more. */
  close(): void {
    this.#close(1000, "");
    this.#end({ goodbye: undefined, code: 1000, text: "" });
  }

  #close(code: number, reason: string): void {
    if (this.#ended) return;
    try {
      this.#socket.close(code, reason);
    } catch {
      // Closing a socket that never opened throws in some implementations; there is nothing left to close then.
    }
  }

  #handleFrame(data: unknown): void {
    if (this.#ended) return;
    this.#lastHeardMs = this.#environment.now();
    let events: ServerEvent[];
    try {
      if (typeof data !== "string") throw new TypeError("frames are text");
      events = decodeFrame(data);
    } catch (error) {
      this.drop(`the broker sent what is no frame: ${String(error)}`);
      return;
    }
    const size = typeof data === "string" ? data.length / events.length : 0;
    for (const event of events) {
      if (this.#ended) return;
      this.#handleEvent(event, size);
    }
  }

  #handleEvent(event: ServerEvent, size: number): void {
    if (event.kind !== "heartbeat") this.#lastEventMs = this.#lastHeardMs;
    switch (event.kind) {
      case "reply": {
        const onReply = this.#pending.get(event.reply.id);
        this.#pending.delete(event.reply.id);
        try {
          onReply?.(event.reply);
        } catch (error) {
          if (!(error instanceof TypeError || error instanceof BongsuError)) throw error;
          this.drop(`the broker sent what is no reply: ${String(error)}`);
        }
        return;
      }
      case "welcome":
        this.#silenceMaxMs = event.session.heartbeatMs > 0 ? 2 * event.session.heartbeatMs : Infinity;
        this.#watch();
        this.#handlers.onWelcome(event.session);
        return;
      case "goodbye":
        this.#goodbye = event.goodbye;
        return;
      case "heartbeat":
        return;
      default:
        this.#handlers.onEvent(event, size);
    }
  }

  /** One timer that looks back, instead of one that is moved with every frame. */
  #watch(): void {
    if (this.#ended || this.#silenceMaxMs === Infinity) return;
    const leftMs = this.#silenceMaxMs - this.silenceMs();
    if (leftMs <= 0) {
      this.drop(`nothing came for ${this.#silenceMaxMs} ms`);
    } else {
      this.#watchdog = this.#environment.setTimer(leftMs, () => this.#watch());
    }
  }

  #end(ending: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#environment.clearTimer(this.#watchdog);
    for (const { timer } of this.#asked) this.#environment.clearTimer(timer);
    this.#pending.clear();
    this.#handlers.onEnd(ending);
  }
}
