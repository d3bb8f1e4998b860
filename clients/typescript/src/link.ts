// The way to the broker: connects, authenticates, and connects again for as long as that makes sense.

import { adviceOfCloseCode, pauseMs, type Advice, type BackoffOptions } from "./backoff.js";
import { Connection, type Ending, type WebSocketConstructor } from "./connection.js";
import type { Environment, Timer } from "./environment.js";
import { BongsuError } from "./error.js";
import type { Session } from "./types.js";
import { object, type Json, type Reply, type ServerEvent } from "./wire.js";

/** A token, or what fetches one. */
export type TokenSource = string | (() => string | Promise<string>);

/**
 * Where the client stands.
 *
 * ```text
 *  connecting ──▶ open ──▶ waiting ──▶ connecting …
 *       └───────────────────▲  any ──▶ closed
 * ```
 */
export type State =
  | { readonly name: "connecting" }
  | { readonly name: "open"; readonly session: Session }
  | {
      readonly name: "waiting";
      /** Milliseconds until the next attempt, as seen when the state began. */
      readonly retryInMs: number;
      /** Why the last connection or attempt ended. */
      readonly error: BongsuError;
    }
  | {
      readonly name: "closed";
      /** Why the client gave up; `undefined` after `close()`. */
      readonly error: BongsuError | undefined;
    };

export interface LinkOptions {
  readonly url: string;
  readonly WebSocket: WebSocketConstructor;
  readonly token: TokenSource | undefined;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly backoff: BackoffOptions;
}

export interface LinkHandlers {
  onState(state: State): void;
  onOpen(connection: Connection): void;
  onEvent(event: ServerEvent, size: number): void;
  /** The connection that was open is gone. */
  onDown(): void;
  /** It was the last one. */
  onClosed(error: BongsuError | undefined): void;
}

/** A connection that lasted this long was a good one: the next pause is a first pause again. */
const STABLE_MS = 5_000;
/** When the machine wakes up, an open connection must answer within this time. */
const WAKE_PROBE_MS = 5_000;

export class Link {
  readonly #options: LinkOptions;
  readonly #environment: Environment;
  readonly #handlers: LinkHandlers;
  #state: State = { name: "connecting" };
  /** Set from the start of an attempt until its end; used by requests only while open. */
  #connection: Connection | undefined;
  /** Counts attempts, so that what a given-up attempt still has under way is recognized. */
  #generation = 0;
  /** Attempts since a connection that lasted. */
  #attempt = 0;
  #openedAtMs = 0;
  /** Tokens refused in a row. */
  #refusals = 0;
  #timer: Timer;
  /** When the pause began, and how long the broker asked to stay away. */
  #stayAwayUntilMs = 0;
  #refreshing: Promise<void> | undefined;
  readonly #stopWaking: () => void;

  constructor(options: LinkOptions, environment: Environment, handlers: LinkHandlers) {
    this.#options = options;
    this.#environment = environment;
    this.#handlers = handlers;
    this.#stopWaking = environment.onWake(() => this.wake());
  }

  get state(): State {
    return this.#state;
  }

  start(): void {
    if (this.#state.name !== "closed") this.#connect();
  }

  /** The network may be back: tries at once if it is waiting, and asks for a sign of life if it is open. */
  wake(): void {
    if (this.#state.name === "waiting") {
      const leftMs = this.#stayAwayUntilMs - this.#environment.now();
      if (leftMs > 0) return;
      this.#environment.clearTimer(this.#timer);
      this.#connect();
    } else if (this.#state.name === "open") {
      this.#connection?.ask({ ping: {} }, WAKE_PROBE_MS, () => {});
    }
  }

  /** Gets a new token and shows it to the broker. Calls that come together share one. */
  refreshToken(): Promise<void> {
    this.#refreshing ??= this.#refreshToken().finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  /** Ends it for good; `error` says why, unless the application asked for it. */
  close(error: BongsuError | undefined): void {
    if (this.#state.name === "closed") return;
    const wasOpen = this.#state.name === "open";
    const connection = this.#connection;
    this.#connection = undefined;
    this.#generation += 1;
    this.#environment.clearTimer(this.#timer);
    this.#stopWaking();
    connection?.close();
    this.#setState({ name: "closed", error });
    if (wasOpen) this.#handlers.onDown();
    this.#handlers.onClosed(error);
  }

  #connect(): void {
    const generation = ++this.#generation;
    const { connectTimeoutMs, token } = this.#options;
    this.#setState({ name: "connecting" });
    this.#timer = this.#environment.setTimer(connectTimeoutMs, () => {
      this.#failed(generation, new BongsuError("timeout", `no connection within ${connectTimeoutMs} ms`));
    });
    if (token === undefined) {
      this.#openSocket(generation, undefined);
      return;
    }
    this.#fetchToken().then(
      (value) => this.#openSocket(generation, value),
      (cause: unknown) =>
        this.#failed(generation, new BongsuError("unauthenticated", `no token: ${String(cause)}`, { cause })),
    );
  }

  async #fetchToken(): Promise<string> {
    const { token } = this.#options;
    return typeof token === "function" ? await token() : (token ?? "");
  }

  #openSocket(generation: number, token: string | undefined): void {
    if (generation !== this.#generation) return;
    let session: Session | undefined;
    let subject = token === undefined ? "" : undefined;
    const openWhenComplete = (): void => {
      if (generation !== this.#generation || session === undefined || subject === undefined) return;
      this.#opened({ ...session, subject: subject || session.subject });
    };
    let connection: Connection | undefined;
    try {
      connection = new Connection(
        this.#options.url,
        this.#options.WebSocket,
        this.#environment,
        {
          onWelcome: (welcome) => {
            session = welcome;
            openWhenComplete();
          },
          onEvent: (event, size) => {
            if (generation !== this.#generation) return;
            if (event.kind === "tokenExpiring") return this.#replaceToken();
            this.#handlers.onEvent(event, size);
          },
          onEnd: (ending) => this.#ended(generation, ending),
        },
        () => {
          if (token === undefined) return;
          this.#authenticate(connection as Connection, token, (error, named) => {
            if (error !== undefined) return this.#refused(generation, error);
            subject = named;
            openWhenComplete();
          });
        },
      );
      this.#connection = connection;
    } catch (cause) {
      this.#failed(generation, new BongsuError("unavailable", `no socket: ${String(cause)}`, { cause }));
    }
  }

  #authenticate(
    connection: Connection,
    token: string,
    onAnswer: (error: BongsuError | undefined, subject: string) => void,
  ): void {
    connection.ask({ authenticate: { token } }, this.#options.requestTimeoutMs, (reply) => {
      onAnswer(reply.error, reply.error === undefined ? subjectOf(reply) : "");
    });
  }

  async #refreshToken(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined || this.#state.name !== "open") {
      throw new BongsuError("unavailable", "not connected; the next connection fetches a token anyway");
    }
    const token = await this.#fetchToken();
    await new Promise<void>((resolve, reject) => {
      this.#authenticate(connection, token, (error) => (error === undefined ? resolve() : reject(error)));
    });
  }

  /** Shows the next token before the old one ends. Where that fails, the connection ends, and the next one fetches a token anyway. */
  #replaceToken(): void {
    if (typeof this.#options.token !== "function") return;
    this.refreshToken().catch(() => {});
  }

  #opened(session: Session): void {
    this.#environment.clearTimer(this.#timer);
    this.#openedAtMs = this.#environment.now();
    this.#refusals = 0;
    this.#setState({ name: "open", session });
    this.#handlers.onOpen(this.#connection as Connection);
  }

  /** The broker does not take the token. A source that makes new ones gets one more chance. */
  #refused(generation: number, error: BongsuError): void {
    if (generation !== this.#generation) return;
    this.#refusals += 1;
    const again = error.retryable || (typeof this.#options.token === "function" && this.#refusals < 2);
    this.#down(again ? "backoff" : "never", error.retryAfterMs, error);
  }

  #failed(generation: number, error: BongsuError): void {
    if (generation === this.#generation) this.#down("backoff", undefined, error);
  }

  #ended(generation: number, { goodbye, code, text }: Ending): void {
    if (generation !== this.#generation) return;
    this.#connection = undefined;
    const reason = goodbye?.reason ?? (code === 4401 ? "unauthenticated" : code === 4403 ? "forbidden" : "");
    const told = [reason, goodbye?.text || text || `the connection closed (${code})`].filter(Boolean).join(": ");
    const error = new BongsuError(codeOfReason(reason), told, { retryAfterMs: goodbye?.retryAfterMs });
    if (reason === "unauthenticated") {
      this.#refused(generation, error);
    } else {
      this.#down(goodbye?.advice ?? adviceOfCloseCode(code), goodbye?.retryAfterMs, error);
    }
  }

  #down(advice: Advice, retryAfterMs: number | undefined, error: BongsuError): void {
    if (advice === "never") {
      this.close(error);
      return;
    }
    this.#environment.clearTimer(this.#timer);
    const wasOpen = this.#state.name === "open";
    const nowMs = this.#environment.now();
    if (wasOpen && nowMs - this.#openedAtMs >= STABLE_MS) this.#attempt = 0;
    const random = (): number => this.#environment.random();
    const retryInMs = pauseMs(advice, this.#attempt, retryAfterMs, this.#options.backoff, random);
    this.#attempt += 1;
    this.#stayAwayUntilMs = nowMs + (retryAfterMs ?? 0);
    // Whatever this attempt still has under way belongs to the past.
    this.#generation += 1;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.drop(error.message);
    this.#timer = this.#environment.setTimer(retryInMs, () => this.#connect());
    this.#setState({ name: "waiting", retryInMs, error });
    if (wasOpen) this.#handlers.onDown();
  }

  #setState(state: State): void {
    this.#state = state;
    this.#handlers.onState(state);
  }
}

function subjectOf(reply: Reply): string {
  const authenticated: Json = object(reply.body["authenticated"], "authenticated");
  return typeof authenticated["subject"] === "string" ? authenticated["subject"] : "";
}

function codeOfReason(reason: string): "unauthenticated" | "forbidden" | "closed" | "unavailable" {
  if (reason === "unauthenticated" || reason === "forbidden") return reason;
  return reason === "normal" ? "closed" : "unavailable";
}
