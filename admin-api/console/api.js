// Requests to the admin API: who asks, what was answered, and why something was not done.

const TOKEN = "bongsu.token";

/** How long an answer may take before it is given up: 30 s. */
const ANSWER_MS = 30_000;

/** Characters of one event of a stream, at most: 8 MiB, well above the largest message. */
const EVENT_CHARS_MAX = 8 << 20;

/** What to do about a problem, by its stable code. */
const ADVICE = {
  changed: "Somebody else changed it since you looked. Load it again and decide again.",
  condition_required: "Load it again, so that your change says which version it is of.",
  conflict: "Look at what stands against it, then try again.",
  forbidden: "Ask for a token with a higher role, or have somebody with one do it.",
  internal: "Look into the node's log; it says what happened.",
  not_found: "It may have gone since the page was loaded. Go back and load the list again.",
  offline: "Check that the node runs and that you can reach it, then try again.",
  rate_limited: "Wait a moment, then try again.",
  timeout: "Try again; if it stays so, look at the overview for what is slow.",
  too_large: "Send less at once. The command line takes files of any size.",
  unauthenticated: "Sign in again.",
  unavailable: "Try again in a moment. The overview shows what does not answer.",
};

/** Why a request was not done: the problem's own words, and what to do. */
export class Problem extends Error {
  constructor({ status = 0, code = "internal", detail, errors = [] }) {
    super(detail);
    this.status = status;
    this.code = code;
    /** What is wrong at which place. */
    this.errors = errors;
  }

  get advice() {
    return ADVICE[this.code] ?? "";
  }
}

/** The token of this tab. It is in no address, and gone with the tab. */
export const credential = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (token) => (token ? sessionStorage.setItem(TOKEN, token) : sessionStorage.removeItem(TOKEN)),
};

/** Called when the broker does not know who asks (any more). */
export const signedOut = new EventTarget();

/** Puts values into a path's braces, each as one segment. */
export function fill(path, values = {}) {
  return path.replaceAll(/\{(\w+)\}/g, (_, name) => {
    const value = String(values[name]);
    // A browser takes these for steps in the path, however they are encoded.
    if (value === "." || value === "..") throw new Problem({ code: "bad_request", detail: `a browser cannot ask for “${value}”: use the command line` });
    return encodeURIComponent(value);
  });
}

const TEXT = /^(text\/|application\/(json|problem\+json|x-ndjson))/;

/** Parses JSON so that numbers which JavaScript cannot hold stay as they were written, where the browser can do that. */
export function parse(text) {
  if (typeof JSON.rawJSON !== "function") return JSON.parse(text);
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && context?.source !== undefined && !isExact(value, context.source) ? JSON.rawJSON(context.source) : value,
  );
}

/** A whole number past 2^53 would be shown as another one, and so would one with more digits than any double has. */
function isExact(value, source) {
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value);
  return Number.isFinite(value) && source.replace(/[eE].*$/, "").replaceAll(/\D/g, "").length <= 17;
}

/**
 * Asks. `operation` is as in the document: `GET /v1/topics/{topic}`.
 * Returns `{ status, data, etag }`; `data` is the parsed answer, or its text.
 */
export async function ask(operation, { path = {}, query = {}, body, text, type, headers = {}, signal } = {}) {
  const limit = AbortSignal.timeout(ANSWER_MS);
  const response = await request(operation, { path, query, body, text, type, headers, signal: signal ? AbortSignal.any([signal, limit]) : limit });
  const kind = response.headers.get("content-type") ?? "";
  const answer = await read(response, kind);
  return { status: response.status, data: answer, etag: response.headers.get("etag") };
}

async function read(response, kind) {
  try {
    const text = await response.text();
    return kind.includes("json") && !kind.includes("ndjson") && text !== "" ? parse(text) : text;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "offline", detail: "the answer ended early" });
  }
}

/** The response itself, once it is known to be a good one. Its body has not been read. */
export async function request(operation, { path, query = {}, body, text, type, headers = {}, signal }) {
  const [method, template] = operation.split(" ");
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== ""));
  const sent = { accept: "application/json, application/problem+json", ...headers };
  if (credential.get()) sent.authorization = `Bearer ${credential.get()}`;
  let payload;
  if (body !== undefined) {
    payload = JSON.stringify(body);
    sent["content-type"] = "application/json";
  } else if (text !== undefined) {
    payload = text;
    sent["content-type"] = type ?? "application/json";
  }
  // Relative, so that the console also works below a path of a proxy.
  const url = fill(template, path).slice(1) + (search.size ? `?${search}` : "");
  let response;
  try {
    response = await fetch(url, { method, headers: sent, body: payload, signal, cache: "no-store", credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new Problem({ code: "timeout", detail: `the node did not answer within ${ANSWER_MS / 1000} seconds` });
    throw new Problem({ code: "offline", detail: "the node cannot be reached" });
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function problem(response) {
  const found = { status: response.status, detail: `the node answered ${response.status}` };
  const kind = response.headers.get("content-type") ?? "";
  if (TEXT.test(kind)) {
    const text = (await response.text().catch(() => "")).slice(0, 65_536);
    try {
      const { code, detail, errors } = JSON.parse(text);
      if (typeof code === "string") found.code = code;
      if (typeof detail === "string") found.detail = detail;
      if (Array.isArray(errors)) found.errors = errors;
    } catch {
      if (text && text.length < 300) found.detail = text;
    }
  }
  if (response.status === 401) {
    found.code = "unauthenticated";
    signedOut.dispatchEvent(new CustomEvent("signed-out", { detail: found.detail }));
  }
  return new Problem(found);
}

/**
 * Follows a stream of events until it ends or the signal says so. Each event is `{ event, id, data }`, its data parsed where it is JSON.
 * Lines of NDJSON are events named `message`.
 */
export async function follow(operation, { path, query, signal }, onEvent) {
  const response = await request(operation, { path, query, signal, headers: { accept: "text/event-stream" } });
  const isEvents = (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
  const take = isEvents ? events(onEvent) : ndjson(onEvent);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    if (rest.length > EVENT_CHARS_MAX) throw new Problem({ code: "too_large", detail: "an event of the stream is too large to show" });
    for (const line of lines) take(line.endsWith("\r") ? line.slice(0, -1) : line);
  }
}

const json = (text) => {
  try {
    return parse(text);
  } catch {
    return text;
  }
};

const ndjson = (onEvent) => (line) => line !== "" && onEvent({ event: "message", id: "", data: json(line) });

function events(onEvent) {
  let event = { event: "message", id: "", data: [] };
  let chars = 0;
  return (line) => {
    if (line === "") {
      if (event.data.length) onEvent({ ...event, data: json(event.data.join("\n")) });
      event = { event: "message", id: event.id, data: [] };
      chars = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    chars += value.length;
    if (chars > EVENT_CHARS_MAX) throw new Problem({ code: "too_large", detail: "an event of the stream is too large to show" });
    if (field === "data") event.data.push(value);
    else if (field === "event") event.event = value;
    else if (field === "id") event.id = value;
  };
}
