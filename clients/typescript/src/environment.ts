// What the client takes from the world around it: time, randomness and hints. Tests hand in their own.

/** A timer that was set. */
export type Timer = unknown;

/** The client's only sources of time and chance. */
export interface Environment {
  /** Milliseconds from an arbitrary point that never go back. */
  now(): number;
  setTimer(delayMs: number, run: () => void): Timer;
  clearTimer(timer: Timer): void;
  /** At least 0, below 1. */
  random(): number;
  /** A message id that nobody else makes. */
  newMessageId(): string;
  /** Calls back when the machine may have got its network back or woke up; returns what ends that. */
  onWake(wake: () => void): () => void;
}

/** The real world. */
export function realEnvironment(): Environment {
  return {
    now: () => performance.now(),
    setTimer: (delayMs, run) => setTimeout(run, delayMs),
    clearTimer: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
    random: Math.random,
    newMessageId,
    onWake,
  };
}

/** 128 random bits in hexadecimal. Not `crypto.randomUUID`, which browsers keep from pages without TLS. */
function newMessageId(): string {
  // Node.js 18 has no global `crypto`; there, 128 bits of Math.random keep ids apart, which is all they are for.
  const bytes = new Uint8Array(16);
  if (typeof crypto === "undefined") bytes.forEach((_, i) => (bytes[i] = Math.floor(Math.random() * 256)));
  else crypto.getRandomValues(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function onWake(wake: () => void): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const onVisibility = (): void => {
    if (document.visibilityState === "visible") wake();
  };
  window.addEventListener("online", wake);
  document.addEventListener("visibilitychange", onVisibility);
  return () => {
    window.removeEventListener("online", wake);
    document.removeEventListener("visibilitychange", onVisibility);
  };
}
