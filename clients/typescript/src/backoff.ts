// How long to wait before the next connection. Pure: randomness is an argument.

/** Whether and when to connect again, in the words of the protocol's goodbye. */
export type Advice = "never" | "now" | "backoff";

/** Bounds of the pauses between connections. */
export interface BackoffOptions {
  /** Milliseconds of the first pause, at most. */
  readonly firstMs: number;
  /** Milliseconds that no pause exceeds, unless the broker asks for more. */
  readonly mostMs: number;
}

/** Milliseconds over which clients that were told to come back at once spread themselves. */
const NOW_SPREAD_MS = 1_000;

/**
 * Milliseconds to wait before connection attempt number `attempt` (0 for the first after a connection that lasted).
 *
 * Pauses double from `firstMs` to `mostMs`; each is drawn from its upper half, so that clients that lost their node together
 * do not come back together, and none comes back at once. The broker's `retryAfterMs` is a lower bound, spread the same way.
 */
export function pauseMs(
  advice: "now" | "backoff",
  attempt: number,
  retryAfterMs: number | undefined,
  options: BackoffOptions,
  random: () => number,
): number {
  let pause: number;
  if (advice === "now" && attempt === 0) {
    pause = random() * NOW_SPREAD_MS;
  } else {
    // 2^30 times any first pause is past every bound; the exponent stays where doubles are exact.
    const bound = Math.min(options.mostMs, options.firstMs * 2 ** Math.min(attempt, 30));
    pause = bound / 2 + (random() * bound) / 2;
  }
  if (retryAfterMs !== undefined && pause < retryAfterMs) {
    pause = retryAfterMs + random() * Math.min(NOW_SPREAD_MS, retryAfterMs);
  }
  return Math.round(pause);
}

/**
 * What a close without a goodbye means, by its WebSocket code. The broker says goodbye before it closes, so such a close is
 * most often a proxy's or the network's: come back, except where the code says that the same would happen again.
 */
export function adviceOfCloseCode(code: number): Advice {
  if (code >= 4400 && code <= 4499) return "never";
  if (code === 1002 || code === 1003 || code === 1007 || code === 1009) return "never";
  if (code === 1001 || code === 1012 || (code >= 4200 && code <= 4299)) return "now";
  return "backoff";
}
