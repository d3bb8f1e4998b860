// The client of clients/typescript in one file. Made by `npm run bundle` there; do not edit.

class Emitter {
    #listeners = new Map();
    on(name, listener) {
        let listeners = this.#listeners.get(name);
        if (listeners === undefined) {
            listeners = new Set();
            this.#listeners.set(name, listeners);
        }
        const entry = (event) => listener(event);
        listeners.add(entry);
        return () => void listeners.delete(entry);
    }
    emit(name, event) {
        for (const listener of [...(this.#listeners.get(name) ?? [])]) {
            try {
                listener(event);
            }
            catch (error) {
                queueMicrotask(() => {
                    throw error;
                });
            }
        }
    }
}

function realEnvironment() {
    return {
        now: () => performance.now(),
        setTimer: (delayMs, run) => setTimeout(run, delayMs),
        clearTimer: (timer) => clearTimeout(timer),
        random: Math.random,
        newMessageId,
        onWake,
    };
}
function newMessageId() {
    const bytes = new Uint8Array(16);
    if (typeof crypto === "undefined")
        bytes.forEach((_, i) => (bytes[i] = Math.floor(Math.random() * 256)));
    else
        crypto.getRandomValues(bytes);
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
function onWake(wake) {
    if (typeof window === "undefined" || typeof document === "undefined")
        return () => { };
    const onVisibility = () => {
        if (document.visibilityState === "visible")
            wake();
    };
    window.addEventListener("online", wake);
    document.addEventListener("visibilitychange", onVisibility);
    return () => {
        window.removeEventListener("online", wake);
        document.removeEventListener("visibilitychange", onVisibility);
    };
}

const BROKER_CODES = new Set([
    "bad_request",
    "unauthenticated",
    "forbidden",
    "not_found",
    "too_large",
    "too_many",
    "rate_limited",
    "conflict",
    "unavailable",
    "unsupported",
    "internal",
]);
const RETRYABLE = new Set([
    "rate_limited",
    "unavailable",
    "internal",
    "timeout",
    "queue_full",
]);
class BongsuError extends Error {
    code;
    retryable;
    retryAfterMs;
    head;
    messageId;
    constructor(code, text, details = {}) {
        super(`${code}: ${text}`, details.cause === undefined ? undefined : { cause: details.cause });
        this.name = "BongsuError";
        this.code = code;
        this.retryable = RETRYABLE.has(code);
        this.retryAfterMs = details.retryAfterMs;
        this.head = details.head;
        this.messageId = details.messageId;
    }
}
function knownCode(code) {
    return BROKER_CODES.has(code) ? code : "internal";
}

const NOW_SPREAD_MS = 1_000;
function pauseMs(advice, attempt, retryAfterMs, options, random) {
    let pause;
    if (advice === "now" && attempt === 0) {
        pause = random() * NOW_SPREAD_MS;
    }
    else {
        const bound = Math.min(options.mostMs, options.firstMs * 2 ** Math.min(attempt, 30));
        pause = bound / 2 + (random() * bound) / 2;
    }
    if (retryAfterMs !== undefined && pause < retryAfterMs) {
        pause = retryAfterMs + random() * Math.min(NOW_SPREAD_MS, retryAfterMs);
    }
    return Math.round(pause);
}
function adviceOfCloseCode(code) {
    if (code >= 4400 && code <= 4499)
        return "never";
    if (code === 1002 || code === 1003 || code === 1007 || code === 1009)
        return "never";
    if (code === 1001 || code === 1012 || (code >= 4200 && code <= 4299))
        return "now";
    return "backoff";
}

const SUB_PROTOCOL = "bongsu.v1.json";
const REQUESTS_PER_FRAME_MAX = 1_024;
const FILTERS_PER_REQUEST_MAX = 1_024;
function encodeSubscription({ filter, from, seen }) {
    const out = { filter };
    if (from !== undefined)
        out["from"] = encodeStart(from);
    if (seen !== undefined && seen.length > 0) {
        out["seen"] = seen.map(([topic, position]) => ({ topic, position: encodePosition(position) }));
    }
    return out;
}
function encodeMessage(message) {
    const { topic, data, contentType, headers, id, expect } = message;
    const out = { topic };
    if (data instanceof Uint8Array)
        out["bytes"] = toBase64(data);
    else if (data instanceof ArrayBuffer)
        out["bytes"] = toBase64(new Uint8Array(data));
    else if (typeof data === "string" && contentType !== undefined && !isJsonType(contentType))
        out["text"] = data;
    else if (JSON.stringify(data) === undefined)
        throw new BongsuError("bad_request", `${typeof data} has no JSON form`);
    else
        out["data"] = data;
    if (contentType !== undefined)
        out["type"] = contentType;
    if (headers !== undefined)
        out["headers"] = headers;
    out["id"] = id;
    if (expect !== undefined)
        out["expect"] = expect;
    return out;
}
function encodeHistory(topic, range, limit) {
    if ("from" in range)
        return { topic, from: encodeStart(range.from), limit };
    return { topic, before: range.before === "latest" ? "latest" : encodePosition(range.before), limit };
}
function encodeStart(start) {
    return typeof start === "object" && "after" in start ? { after: encodePosition(start.after) } : start;
}
function encodePosition({ epoch, offset }) {
    return { epoch, offset };
}
function isJsonType(contentType) {
    const essence = (contentType.split(";", 1)[0] ?? "").trim().toLowerCase();
    return essence === "application/json" || essence.endsWith("+json");
}
function decodeFrame(text) {
    const frame = JSON.parse(text);
    const events = [];
    for (const event of Array.isArray(frame) ? frame : [frame]) {
        const decoded = decodeEvent(object(event, "event"));
        if (decoded !== undefined)
            events.push(decoded);
    }
    return events;
}
function decodeEvent(event) {
    if (event["delivery"] !== undefined)
        return { kind: "delivery", message: decodeDelivery(event["delivery"]) };
    if (event["reply"] !== undefined)
        return { kind: "reply", reply: decodeReply(object(event["reply"], "reply")) };
    if (event["heartbeat"] !== undefined)
        return { kind: "heartbeat" };
    if (event["lost"] !== undefined)
        return { kind: "lost", lost: decodeLost(object(event["lost"], "lost")) };
    if (event["reset"] !== undefined) {
        const reset = object(event["reset"], "reset");
        return { kind: "reset", topic: text(reset, "topic"), epoch: integer(reset, "epoch") };
    }
    if (event["welcome"] !== undefined) {
        return { kind: "welcome", session: decodeWelcome(object(event["welcome"], "welcome")) };
    }
    if (event["unsubscribed"] !== undefined) {
        const ended = object(event["unsubscribed"], "unsubscribed");
        return { kind: "unsubscribed", filter: text(ended, "filter"), error: decodeError(ended["error"]) };
    }
    if (event["tokenExpiring"] !== undefined) {
        return { kind: "tokenExpiring", inMs: integer(object(event["tokenExpiring"], "tokenExpiring"), "inMs") };
    }
    if (event["goodbye"] !== undefined) {
        return { kind: "goodbye", goodbye: decodeGoodbye(object(event["goodbye"], "goodbye")) };
    }
    return undefined;
}
function decodeWelcome(welcome) {
    return {
        session: text(welcome, "session"),
        node: text(welcome, "node"),
        subject: text(welcome, "subject"),
        heartbeatMs: integer(welcome, "heartbeatMs"),
        frameBytesMax: integer(welcome, "frameBytesMax"),
    };
}
function decodeReply(reply) {
    const error = reply["error"] === undefined ? undefined : decodeError(reply["error"]);
    return { id: integer(reply, "id"), error, body: reply };
}
function decodeDelivery(value) {
    const delivery = object(value, "delivery");
    const position = delivery["offset"] === undefined ? undefined : decodePosition(delivery);
    return {
        kind: "message",
        topic: text(delivery, "topic"),
        position,
        offset: position?.offset,
        time: integer(delivery, "time"),
        publisher: text(delivery, "publisher"),
        data: decodePayload(delivery),
        contentType: text(delivery, "type"),
        headers: (delivery["headers"] ?? {}),
        id: text(delivery, "id"),
        erased: delivery["erased"] === true,
    };
}
function decodePayload(delivery) {
    if (delivery["erased"] === true)
        return undefined;
    if ("data" in delivery)
        return delivery["data"];
    if (typeof delivery["text"] === "string")
        return delivery["text"];
    return fromBase64(text(delivery, "bytes"));
}
function decodeLost(lost) {
    return {
        topic: text(lost, "topic"),
        epoch: integer(lost, "epoch"),
        from: integer(lost, "from"),
        until: integer(lost, "until"),
        count: integer(lost, "count"),
    };
}
function decodeGoodbye(goodbye) {
    const advice = goodbye["reconnect"];
    return {
        reason: text(goodbye, "reason"),
        text: text(goodbye, "text"),
        advice: advice === "never" || advice === "now" ? advice : "backoff",
        retryAfterMs: optionalInteger(goodbye, "retryAfterMs"),
    };
}
function decodeError(value) {
    const error = object(value, "error");
    return new BongsuError(knownCode(text(error, "code")), text(error, "text"), {
        retryAfterMs: optionalInteger(error, "retryAfterMs"),
        head: error["head"] === undefined ? undefined : decodePosition(object(error["head"], "head")),
    });
}
function decodeResults(list, kind, decode) {
    const { results } = object(list, "results");
    if (!Array.isArray(results))
        throw new TypeError("results are no list");
    return results.map((item) => {
        const result = object(item, "result");
        return result["error"] === undefined ? decode(object(result[kind], kind)) : decodeError(result["error"]);
    });
}
function decodeSubscribed(value) {
    const positions = (value["positions"] ?? []);
    return {
        since: integer(value, "since"),
        positions: positions.map((item) => {
            const named = object(item, "position");
            return [text(named, "topic"), decodePosition(object(named["position"], "position"))];
        }),
    };
}
function decodePublished(value) {
    return {
        position: value["position"] === undefined ? undefined : decodePosition(object(value["position"], "position")),
        duplicate: value["duplicate"] === true,
    };
}
function decodePage(value) {
    return {
        messages: (value["messages"] ?? []).map(decodeDelivery),
        first: decodePosition(object(value["first"], "first")),
        head: decodePosition(object(value["head"], "head")),
        more: value["more"] === true,
    };
}
function decodeMembers(value) {
    const members = (value["members"] ?? []).map(decodeMember);
    return { members, total: integer(value, "total") };
}
function decodeMember(value) {
    const member = object(value, "member");
    return {
        session: text(member, "session"),
        subject: text(member, "subject"),
        info: member["info"],
        since: integer(member, "since"),
    };
}
function decodePosition(value) {
    return { epoch: integer(value, "epoch"), offset: integer(value, "offset") };
}
function object(value, what) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
        throw new TypeError(`${what} is no object`);
    return value;
}
function text(from, key) {
    const value = from[key] ?? "";
    if (typeof value !== "string")
        throw new TypeError(`${key} is no text`);
    return value;
}
function integer(from, key) {
    return optionalInteger(from, key) ?? 0;
}
function optionalInteger(from, key) {
    const value = from[key];
    if (value === undefined)
        return undefined;
    if (!Number.isSafeInteger(value) || value < 0)
        throw new TypeError(`${key} is no integer`);
    return value;
}
function toBase64(bytes) {
    let binary = "";
    for (let at = 0; at < bytes.length; at += 8_192) {
        binary += String.fromCharCode(...bytes.subarray(at, at + 8_192));
    }
    return btoa(binary);
}
function fromBase64(encoded) {
    return Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
}

const BATCH_CHARACTERS = 256 * 1_024;
class Connection {
    #environment;
    #handlers;
    #socket;
    #pending = new Map();
    #asked = new Set();
    #nextId = 1;
    #goodbye;
    #lastHeardMs;
    #lastEventMs;
    #silenceMaxMs = Infinity;
    #watchdog;
    #ended = false;
    constructor(url, WebSocket, environment, handlers, onSocketOpen) {
        this.#environment = environment;
        this.#handlers = handlers;
        this.#lastHeardMs = environment.now();
        this.#lastEventMs = this.#lastHeardMs;
        this.#socket = new WebSocket(url, [SUB_PROTOCOL]);
        this.#socket.addEventListener("open", () => {
            if (!this.#ended)
                onSocketOpen();
        });
        this.#socket.addEventListener("message", (event) => this.#handleFrame(event.data));
        this.#socket.addEventListener("error", () => {
        });
        this.#socket.addEventListener("close", (event) => {
            this.#end({ goodbye: this.#goodbye, code: event.code ?? 1006, text: event.reason ?? "" });
        });
    }
    silenceMs() {
        return this.#environment.now() - this.#lastHeardMs;
    }
    send(requests) {
        if (this.#ended)
            return [];
        const ids = [];
        let frame = [];
        let characters = 0;
        const flush = () => {
            if (frame.length > 0)
                this.#socket.send(frame.length === 1 ? frame[0] : `[${frame.join(",")}]`);
            frame = [];
            characters = 0;
        };
        for (const { text, onReply } of requests) {
            const id = this.#nextId++;
            this.#pending.set(id, onReply);
            ids.push(id);
            if (frame.length === REQUESTS_PER_FRAME_MAX || characters + text.length > BATCH_CHARACTERS)
                flush();
            const request = `{"id":${id},${text.slice(1)}`;
            frame.push(request);
            characters += request.length;
        }
        flush();
        return ids;
    }
    ask(command, timeoutMs, onReply) {
        this.askText(JSON.stringify(command), timeoutMs, onReply);
    }
    askText(text, timeoutMs, onReply) {
        if (this.#ended)
            return;
        const entry = { timer: undefined };
        const watch = (leftMs) => {
            entry.timer = this.#environment.setTimer(leftMs, () => {
                const quietMs = this.#environment.now() - this.#lastEventMs;
                if (quietMs < timeoutMs)
                    watch(timeoutMs - quietMs);
                else
                    this.drop(`no reply within ${timeoutMs} ms`);
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
    forget(id) {
        this.#pending.delete(id);
    }
    drop(text) {
        this.#close(4000, text);
        this.#end({ goodbye: this.#goodbye, code: 1006, text });
    }
    close() {
        this.#close(1000, "");
        this.#end({ goodbye: undefined, code: 1000, text: "" });
    }
    #close(code, reason) {
        if (this.#ended)
            return;
        try {
            this.#socket.close(code, reason);
        }
        catch {
        }
    }
    #handleFrame(data) {
        if (this.#ended)
            return;
        this.#lastHeardMs = this.#environment.now();
        let events;
        try {
            if (typeof data !== "string")
                throw new TypeError("frames are text");
            events = decodeFrame(data);
        }
        catch (error) {
            this.drop(`the broker sent what is no frame: ${String(error)}`);
            return;
        }
        const size = typeof data === "string" ? data.length / events.length : 0;
        for (const event of events) {
            if (this.#ended)
                return;
            this.#handleEvent(event, size);
        }
    }
    #handleEvent(event, size) {
        if (event.kind !== "heartbeat")
            this.#lastEventMs = this.#lastHeardMs;
        switch (event.kind) {
            case "reply": {
                const onReply = this.#pending.get(event.reply.id);
                this.#pending.delete(event.reply.id);
                try {
                    onReply?.(event.reply);
                }
                catch (error) {
                    if (!(error instanceof TypeError || error instanceof BongsuError))
                        throw error;
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
    #watch() {
        if (this.#ended || this.#silenceMaxMs === Infinity)
            return;
        const leftMs = this.#silenceMaxMs - this.silenceMs();
        if (leftMs <= 0) {
            this.drop(`nothing came for ${this.#silenceMaxMs} ms`);
        }
        else {
            this.#watchdog = this.#environment.setTimer(leftMs, () => this.#watch());
        }
    }
    #end(ending) {
        if (this.#ended)
            return;
        this.#ended = true;
        this.#environment.clearTimer(this.#watchdog);
        for (const { timer } of this.#asked)
            this.#environment.clearTimer(timer);
        this.#pending.clear();
        this.#handlers.onEnd(ending);
    }
}

const STABLE_MS = 5_000;
const WAKE_PROBE_MS = 5_000;
class Link {
    #options;
    #environment;
    #handlers;
    #state = { name: "connecting" };
    #connection;
    #generation = 0;
    #attempt = 0;
    #openedAtMs = 0;
    #refusals = 0;
    #timer;
    #stayAwayUntilMs = 0;
    #refreshing;
    #stopWaking;
    constructor(options, environment, handlers) {
        this.#options = options;
        this.#environment = environment;
        this.#handlers = handlers;
        this.#stopWaking = environment.onWake(() => this.wake());
    }
    get state() {
        return this.#state;
    }
    start() {
        if (this.#state.name !== "closed")
            this.#connect();
    }
    wake() {
        if (this.#state.name === "waiting") {
            const leftMs = this.#stayAwayUntilMs - this.#environment.now();
            if (leftMs > 0)
                return;
            this.#environment.clearTimer(this.#timer);
            this.#connect();
        }
        else if (this.#state.name === "open") {
            this.#connection?.ask({ ping: {} }, WAKE_PROBE_MS, () => { });
        }
    }
    refreshToken() {
        this.#refreshing ??= this.#refreshToken().finally(() => (this.#refreshing = undefined));
        return this.#refreshing;
    }
    close(error) {
        if (this.#state.name === "closed")
            return;
        const wasOpen = this.#state.name === "open";
        const connection = this.#connection;
        this.#connection = undefined;
        this.#generation += 1;
        this.#environment.clearTimer(this.#timer);
        this.#stopWaking();
        connection?.close();
        this.#setState({ name: "closed", error });
        if (wasOpen)
            this.#handlers.onDown();
        this.#handlers.onClosed(error);
    }
    #connect() {
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
        this.#fetchToken().then((value) => this.#openSocket(generation, value), (cause) => this.#failed(generation, new BongsuError("unauthenticated", `no token: ${String(cause)}`, { cause })));
    }
    async #fetchToken() {
        const { token } = this.#options;
        return typeof token === "function" ? await token() : (token ?? "");
    }
    #openSocket(generation, token) {
        if (generation !== this.#generation)
            return;
        let session;
        let subject = token === undefined ? "" : undefined;
        const openWhenComplete = () => {
            if (generation !== this.#generation || session === undefined || subject === undefined)
                return;
            this.#opened({ ...session, subject: subject || session.subject });
        };
        let connection;
        try {
            connection = new Connection(this.#options.url, this.#options.WebSocket, this.#environment, {
                onWelcome: (welcome) => {
                    session = welcome;
                    openWhenComplete();
                },
                onEvent: (event, size) => {
                    if (generation !== this.#generation)
                        return;
                    if (event.kind === "tokenExpiring")
                        return this.#replaceToken();
                    this.#handlers.onEvent(event, size);
                },
                onEnd: (ending) => this.#ended(generation, ending),
            }, () => {
                if (token === undefined)
                    return;
                this.#authenticate(connection, token, (error, named) => {
                    if (error !== undefined)
                        return this.#refused(generation, error);
                    subject = named;
                    openWhenComplete();
                });
            });
            this.#connection = connection;
        }
        catch (cause) {
            this.#failed(generation, new BongsuError("unavailable", `no socket: ${String(cause)}`, { cause }));
        }
    }
    #authenticate(connection, token, onAnswer) {
        connection.ask({ authenticate: { token } }, this.#options.requestTimeoutMs, (reply) => {
            onAnswer(reply.error, reply.error === undefined ? subjectOf(reply) : "");
        });
    }
    async #refreshToken() {
        const connection = this.#connection;
        if (connection === undefined || this.#state.name !== "open") {
            throw new BongsuError("unavailable", "not connected; the next connection fetches a token anyway");
        }
        const token = await this.#fetchToken();
        await new Promise((resolve, reject) => {
            this.#authenticate(connection, token, (error) => (error === undefined ? resolve() : reject(error)));
        });
    }
    #replaceToken() {
        if (typeof this.#options.token !== "function")
            return;
        this.refreshToken().catch(() => { });
    }
    #opened(session) {
        this.#environment.clearTimer(this.#timer);
        this.#openedAtMs = this.#environment.now();
        this.#refusals = 0;
        this.#setState({ name: "open", session });
        this.#handlers.onOpen(this.#connection);
    }
    #refused(generation, error) {
        if (generation !== this.#generation)
            return;
        this.#refusals += 1;
        const again = error.retryable || (typeof this.#options.token === "function" && this.#refusals < 2);
        this.#down(again ? "backoff" : "never", error.retryAfterMs, error);
    }
    #failed(generation, error) {
        if (generation === this.#generation)
            this.#down("backoff", undefined, error);
    }
    #ended(generation, { goodbye, code, text }) {
        if (generation !== this.#generation)
            return;
        this.#connection = undefined;
        const reason = goodbye?.reason ?? (code === 4401 ? "unauthenticated" : code === 4403 ? "forbidden" : "");
        const told = [reason, goodbye?.text || text || `the connection closed (${code})`].filter(Boolean).join(": ");
        const error = new BongsuError(codeOfReason(reason), told, { retryAfterMs: goodbye?.retryAfterMs });
        if (reason === "unauthenticated") {
            this.#refused(generation, error);
        }
        else {
            this.#down(goodbye?.advice ?? adviceOfCloseCode(code), goodbye?.retryAfterMs, error);
        }
    }
    #down(advice, retryAfterMs, error) {
        if (advice === "never") {
            this.close(error);
            return;
        }
        this.#environment.clearTimer(this.#timer);
        const wasOpen = this.#state.name === "open";
        const nowMs = this.#environment.now();
        if (wasOpen && nowMs - this.#openedAtMs >= STABLE_MS)
            this.#attempt = 0;
        const random = () => this.#environment.random();
        const retryInMs = pauseMs(advice, this.#attempt, retryAfterMs, this.#options.backoff, random);
        this.#attempt += 1;
        this.#stayAwayUntilMs = nowMs + (retryAfterMs ?? 0);
        this.#generation += 1;
        const connection = this.#connection;
        this.#connection = undefined;
        connection?.drop(error.message);
        this.#timer = this.#environment.setTimer(retryInMs, () => this.#connect());
        this.#setState({ name: "waiting", retryInMs, error });
        if (wasOpen)
            this.#handlers.onDown();
    }
    #setState(state) {
        this.#state = state;
        this.#handlers.onState(state);
    }
}
function subjectOf(reply) {
    const authenticated = object(reply.body["authenticated"], "authenticated");
    return typeof authenticated["subject"] === "string" ? authenticated["subject"] : "";
}
function codeOfReason(reason) {
    if (reason === "unauthenticated" || reason === "forbidden")
        return reason;
    return reason === "normal" ? "closed" : "unavailable";
}

class Outbox {
    #environment;
    #limits;
    #refreshToken;
    #entries = new Set();
    #characters = 0;
    #connection;
    #frameBytesMax = Infinity;
    #flushIsDue = false;
    #onEmpty = [];
    constructor(environment, limits, refreshToken) {
        this.#environment = environment;
        this.#limits = limits;
        this.#refreshToken = refreshToken;
    }
    get size() {
        return this.#entries.size;
    }
    request(command, { timeoutMs, decode, messageId }) {
        return new Promise((resolve, reject) => {
            const text = JSON.stringify(command);
            if (this.#entries.size >= this.#limits.requestsMax ||
                (this.#entries.size > 0 && this.#characters + text.length > this.#limits.charactersMax)) {
                reject(new BongsuError("queue_full", `${this.#entries.size} requests wait for an answer`, { messageId }));
                return;
            }
            const settle = (finish) => {
                this.#remove(entry);
                finish();
            };
            const entry = {
                text,
                messageId,
                sentAs: undefined,
                isSecondTry: false,
                deadline: this.#environment.setTimer(timeoutMs, () => {
                    entry.fail(new BongsuError("timeout", `no answer within ${timeoutMs} ms`, { messageId }));
                }),
                fail: (error) => settle(() => reject(withMessageId(error, messageId))),
                onReply: (reply) => {
                    entry.sentAs = undefined;
                    if (reply.error?.code === "unauthenticated" && !entry.isSecondTry)
                        return this.#tryAgain(entry, reply.error);
                    try {
                        if (reply.error !== undefined)
                            throw reply.error;
                        const result = decode(reply);
                        settle(() => resolve(result));
                    }
                    catch (error) {
                        if (error instanceof BongsuError)
                            return entry.fail(error);
                        entry.fail(new BongsuError("internal", "the broker sent what is no reply", { cause: error }));
                    }
                },
            };
            this.#entries.add(entry);
            this.#characters += text.length;
            this.#flushSoon();
        });
    }
    attach(connection, frameBytesMax) {
        this.#connection = connection;
        this.#frameBytesMax = frameBytesMax > 0 ? frameBytesMax : Infinity;
        this.#flush();
    }
    detach() {
        this.#connection = undefined;
        for (const entry of this.#entries)
            entry.sentAs = undefined;
    }
    failAll(error) {
        for (const entry of [...this.#entries])
            entry.fail(error);
    }
    empty() {
        if (this.#entries.size === 0)
            return Promise.resolve();
        return new Promise((resolve) => this.#onEmpty.push(resolve));
    }
    #remove(entry) {
        if (!this.#entries.delete(entry))
            return;
        this.#characters -= entry.text.length;
        this.#environment.clearTimer(entry.deadline);
        if (entry.sentAs !== undefined)
            this.#connection?.forget(entry.sentAs);
        if (this.#entries.size === 0) {
            for (const resolve of this.#onEmpty.splice(0))
                resolve();
        }
    }
    #tryAgain(entry, error) {
        entry.isSecondTry = true;
        entry.sentAs = 0;
        const connection = this.#connection;
        this.#refreshToken().then(() => {
            if (entry.sentAs === 0)
                entry.sentAs = undefined;
            this.#flushSoon();
        }, () => {
            if (connection === this.#connection)
                entry.fail(error);
        });
    }
    #flushSoon() {
        if (this.#flushIsDue)
            return;
        this.#flushIsDue = true;
        queueMicrotask(() => {
            this.#flushIsDue = false;
            this.#flush();
        });
    }
    #flush() {
        const connection = this.#connection;
        if (connection === undefined)
            return;
        const unsent = [];
        for (const entry of [...this.#entries]) {
            if (entry.sentAs !== undefined)
                continue;
            if (exceeds(entry.text, this.#frameBytesMax)) {
                entry.fail(new BongsuError("too_large", `the broker takes frames of at most ${this.#frameBytesMax} bytes`));
            }
            else {
                unsent.push(entry);
            }
        }
        connection.send(unsent).forEach((id, i) => (unsent[i].sentAs = id));
    }
}
const ENVELOPE_BYTES = 32;
function exceeds(text, bytesMax) {
    if (text.length * 3 + ENVELOPE_BYTES <= bytesMax)
        return false;
    return new TextEncoder().encode(text).length + ENVELOPE_BYTES > bytesMax;
}
function withMessageId(error, messageId) {
    if (messageId === undefined || error.messageId !== undefined)
        return error;
    const text = error.message.slice(error.code.length + 2);
    const { retryAfterMs, head, cause } = error;
    return new BongsuError(error.code, text, { retryAfterMs, head, cause, messageId });
}

class Presence {
    topic;
    #client;
    constructor(topic, client) {
        this.topic = topic;
        this.#client = client;
    }
    enter(info) {
        return this.#client.enter(this.topic, info ?? null);
    }
    leave() {
        return this.#client.leave(this.topic);
    }
    members() {
        return this.#client.members(this.topic);
    }
    watch() {
        return new PresenceWatch(this.#client.subscribe(`$presence/${this.topic}`));
    }
}
class PresenceWatch {
    subscription;
    constructor(subscription) {
        this.subscription = subscription;
    }
    async *[Symbol.asyncIterator]() {
        for await (const message of this.subscription) {
            const change = decodeChange(message);
            if (change !== undefined)
                yield change;
        }
    }
    close() {
        this.subscription.close();
    }
}
function decodeChange(message) {
    const data = object(message.data, "presence");
    if (data["join"] !== undefined)
        return { kind: "joined", member: decodeMember(data["join"]) };
    if (data["leave"] !== undefined)
        return { kind: "left", session: decodeMember(data["leave"]).session };
    return undefined;
}

const TOPICS_MAX = 10_000;
class Cursor {
    #places = new Map();
    get size() {
        return this.#places.size;
    }
    verdict(topic, position) {
        const place = this.#places.get(topic);
        if (place === undefined)
            return "next";
        if (position.epoch !== place.epoch) {
            if (position.epoch < place.epoch)
                return "seen";
            return place.epoch === 0 && position.offset === 1 ? "next" : "hole";
        }
        if (place.anyOffset || position.offset === place.offset + 1)
            return "next";
        return position.offset <= place.offset ? "seen" : "hole";
    }
    verdictOfLost(topic, epoch, from, until) {
        const place = this.#places.get(topic);
        if (place === undefined)
            return "next";
        if (epoch !== place.epoch) {
            if (epoch < place.epoch)
                return "seen";
            return place.epoch === 0 && from === 1 ? "next" : "hole";
        }
        if (place.anyOffset)
            return "next";
        if (until <= place.offset)
            return "seen";
        return from <= place.offset + 1 ? "next" : "hole";
    }
    isNewEpoch(topic, epoch) {
        const place = this.#places.get(topic);
        return place === undefined || epoch > place.epoch;
    }
    advance(topic, { epoch, offset }) {
        this.#places.set(topic, { epoch, offset, anyOffset: false });
    }
    start(topic, position) {
        if (!this.#places.has(topic))
            this.advance(topic, position);
    }
    reset(topic, epoch) {
        this.#places.set(topic, { epoch, offset: 0, anyOffset: true });
    }
    place(topic) {
        const place = this.#places.get(topic);
        return place && { epoch: place.epoch, offset: place.offset };
    }
    places() {
        return this.#places.entries();
    }
    copy(other) {
        for (const [topic, place] of other.#places)
            this.#places.set(topic, place);
    }
}
function comparePositions(one, other) {
    return one.epoch - other.epoch || one.offset - other.offset;
}

function isPattern(filter) {
    return filter.includes("+") || filter.includes("#");
}
function matches(filter, topic) {
    if (topic.startsWith("$") && (filter.startsWith("+") || filter.startsWith("#")))
        return false;
    const wanted = filter.split("/");
    const levels = topic.split("/");
    for (let i = 0;; i += 1) {
        if (wanted[i] === "#")
            return true;
        if (i >= wanted.length || i >= levels.length)
            return wanted.length === levels.length;
        if (wanted[i] !== "+" && wanted[i] !== levels[i])
            return false;
    }
}
function overlaps(one, other) {
    const left = one.split("/");
    const right = other.split("/");
    for (let i = 0;; i += 1) {
        if (left[i] === "#" || right[i] === "#")
            return true;
        if (i >= left.length || i >= right.length)
            return left.length === right.length;
        if (left[i] !== "+" && right[i] !== "+" && left[i] !== right[i])
            return false;
    }
}

const BUFFER_MESSAGES = 1_000;
const BUFFER_CHARACTERS = 4 * 1_024 * 1_024;
const NOTICE_CHARACTERS = 128;
class Subscription {
    filter;
    ready;
    from;
    cursor = new Cursor();
    since;
    flow = "flowing";
    #feeder;
    #emitter = new Emitter();
    #bufferMessages;
    #bufferCharacters;
    #buffer = [];
    #first = 0;
    #counted = 0;
    #characters = 0;
    #live = new Set();
    #liveLost = new Map();
    #liveNotices = new Set();
    #repairs = new Map();
    #resetsForOthers = new Set();
    #waiting;
    #isIterated = false;
    #isEnded = false;
    #error;
    #settleReady;
    constructor(filter, options, feeder) {
        this.filter = filter;
        this.from = options.from;
        this.#feeder = feeder;
        this.#bufferMessages = options.bufferMessages ?? BUFFER_MESSAGES;
        this.#bufferCharacters = options.bufferCharacters ?? BUFFER_CHARACTERS;
        for (const [topic, position] of Object.entries(options.seen ?? {}))
            this.cursor.start(topic, position);
        if (typeof options.from === "object" && "after" in options.from)
            this.cursor.start(filter, options.from.after);
        this.ready = new Promise((resolve, reject) => (this.#settleReady = { resolve, reject }));
        this.ready.catch(() => { });
    }
    on(name, listener) {
        return this.#emitter.on(name, listener);
    }
    position(topic = this.filter) {
        return this.cursor.place(topic);
    }
    get buffered() {
        return this.#counted;
    }
    [Symbol.asyncIterator]() {
        return this.#messages();
    }
    items() {
        return this.#items();
    }
    close() {
        this.#drop();
        this.end(undefined);
    }
    async *#messages() {
        for await (const item of this.#items()) {
            if (item.kind === "message")
                yield item;
        }
    }
    async *#items() {
        if (this.#isIterated)
            throw new BongsuError("bad_request", "a subscription has one loop; subscribe again for another");
        this.#isIterated = true;
        try {
            for (;;) {
                const item = this.#shift();
                if (item !== undefined) {
                    yield item;
                }
                else if (this.#isEnded) {
                    if (this.#error !== undefined)
                        throw this.#error;
                    return;
                }
                else {
                    await new Promise((resolve) => (this.#waiting = resolve));
                }
            }
        }
        finally {
            this.close();
        }
    }
    takeMessage(message, size) {
        const { topic, position } = message;
        if (position === undefined) {
            this.#takeLive(message, size);
            return "taken";
        }
        if (this.flow !== "flowing")
            return this.#leave(topic, position);
        switch (this.cursor.verdict(topic, position)) {
            case "seen":
                return "taken";
            case "hole":
                if (!this.#isRepaired(topic))
                    return "hole";
                this.#tellHole(topic, position);
                break;
            case "next":
                break;
        }
        if (this.#isTooMany(topic))
            return "too_many";
        if (!this.#hasRoom(size))
            return this.#leave(topic, position, "full");
        this.#advance(topic, position);
        this.#push(message, size);
        return "taken";
    }
    takeLost(lost) {
        const { topic, epoch, from, until, count } = lost;
        if (until === 0) {
            this.#countLive(topic, count);
            this.#tellLive();
            return "taken";
        }
        if (this.flow !== "flowing")
            return this.#leave(topic, { epoch, offset: from });
        const verdict = this.cursor.verdictOfLost(topic, epoch, from, until);
        if (verdict === "seen")
            return "taken";
        if (verdict === "hole" && !this.#isRepaired(topic))
            return "hole";
        if (this.#isTooMany(topic))
            return "too_many";
        if (!this.#hasRoom(NOTICE_CHARACTERS))
            return this.#leave(topic, { epoch, offset: from }, "full");
        const place = this.cursor.place(topic);
        const first = place !== undefined && place.epoch === epoch ? place.offset + 1 : from;
        this.#advance(topic, { epoch, offset: until });
        this.#tell({ kind: "lost", topic, count: until - first + 1, range: { epoch, from: first, until } });
        return "taken";
    }
    takeReset(topic, epoch) {
        if (this.flow !== "flowing")
            return "taken";
        if (this.#isTooMany(topic))
            return "too_many";
        const place = this.cursor.place(topic);
        if (this.#resetsForOthers.delete(topic) && place?.epoch === epoch)
            return "taken";
        const isNews = place === undefined || place.epoch !== epoch || place.offset !== 0;
        if (isNews && !this.#hasRoom(NOTICE_CHARACTERS))
            return "full";
        this.#repairs.delete(topic);
        this.cursor.reset(topic, epoch);
        if (isNews && place?.epoch !== 0)
            this.#tell({ kind: "reset", topic, epoch });
        return "taken";
    }
    made({ since, positions }) {
        this.since = since;
        for (const [topic, position] of positions) {
            if (this.cursor.size < TOPICS_MAX)
                this.cursor.start(topic, position);
        }
        this.#settleReady.resolve();
    }
    join(other) {
        this.cursor.copy(other.cursor);
        this.since = other.since;
        if (other.since !== undefined)
            this.#settleReady.resolve();
    }
    unasked() {
        this.#resetsForOthers.clear();
    }
    asked(places) {
        for (const [topic, { epoch }] of this.cursor.places()) {
            if ((places.get(topic)?.epoch ?? epoch) < epoch)
                this.#resetsForOthers.add(topic);
        }
    }
    interrupted() {
        for (const topic of this.#live)
            this.#liveLost.set(topic, undefined);
        this.#tellLive();
    }
    goOn() {
        this.flow = "flowing";
        this.#tellLive();
    }
    pause() {
        this.flow = "paused";
        this.#emitter.emit("paused", true);
    }
    unpaused() {
        this.#emitter.emit("paused", false);
    }
    repairing(topic) {
        const place = this.cursor.place(topic);
        if (place !== undefined)
            this.#repairs.set(topic, place);
    }
    end(error) {
        if (this.#isEnded)
            return;
        this.#isEnded = true;
        this.#error = error;
        this.#settleReady.reject(error ?? new BongsuError("closed", "the subscription was closed"));
        this.#wake();
        this.#feeder.onClose(this);
    }
    #leave(topic, { epoch, offset }, taken = "taken") {
        if (this.#isTooMany(topic))
            return "too_many";
        this.cursor.start(topic, { epoch, offset: offset - 1 });
        return taken;
    }
    #isTooMany(topic) {
        return this.cursor.size >= TOPICS_MAX && this.cursor.place(topic) === undefined;
    }
    #takeLive(message, size) {
        const { topic } = message;
        if (this.#live.size < TOPICS_MAX)
            this.#live.add(topic);
        if (this.flow === "flowing" && this.#hasRoom(size)) {
            this.#tellLive();
            if (!this.#liveLost.has(topic))
                return this.#push(message, size);
        }
        this.#countLive(topic, 1);
    }
    #countLive(topic, count) {
        const before = this.#liveLost.has(topic) ? this.#liveLost.get(topic) : 0;
        this.#liveLost.set(topic, before === undefined ? undefined : before + count);
    }
    #tellLive() {
        for (const [topic, count] of this.#liveLost) {
            if (this.#liveNotices.has(topic))
                continue;
            this.#liveLost.delete(topic);
            this.#liveNotices.add(topic);
            this.#tell({ kind: "lost", topic, count, range: undefined });
        }
    }
    #isRepaired(topic) {
        const place = this.cursor.place(topic);
        const repair = this.#repairs.get(topic);
        return place !== undefined && repair?.epoch === place.epoch && repair.offset === place.offset;
    }
    #tellHole(topic, { epoch, offset }) {
        const place = this.cursor.place(topic);
        this.#repairs.delete(topic);
        if (place !== undefined && place.epoch === epoch) {
            const range = { epoch, from: place.offset + 1, until: offset - 1 };
            this.#tell({ kind: "lost", topic, count: range.until - range.from + 1, range });
        }
        else {
            this.#tell({ kind: "reset", topic, epoch });
        }
        this.cursor.reset(topic, epoch);
    }
    #advance(topic, position) {
        this.cursor.advance(topic, position);
        if (this.#repairs.size > 0)
            this.#repairs.delete(topic);
    }
    #tell(notice) {
        this.#push(notice, NOTICE_CHARACTERS);
        if (notice.kind === "lost")
            this.#emitter.emit("lost", notice);
        else
            this.#emitter.emit("reset", notice);
    }
    #hasRoom(size) {
        if (this.#counted === 0)
            return true;
        return this.#counted < this.#bufferMessages && this.#characters + size <= this.#bufferCharacters;
    }
    #push(item, size) {
        if (this.#isEnded)
            return;
        this.#buffer.push({ item, size });
        if (!isLiveNotice(item)) {
            this.#counted += 1;
            this.#characters += size;
        }
        this.#wake();
    }
    #shift() {
        const entry = this.#buffer[this.#first];
        if (entry === undefined)
            return undefined;
        const { item, size } = entry;
        this.#first += 1;
        if (this.#first === this.#buffer.length || this.#first >= 1_024) {
            this.#buffer.splice(0, this.#first);
            this.#first = 0;
        }
        if (isLiveNotice(item)) {
            this.#liveNotices.delete(item.topic);
        }
        else {
            this.#counted -= 1;
            this.#characters -= size;
        }
        if (this.#liveLost.size > 0 && this.#hasRoom(0))
            this.#tellLive();
        if (this.flow === "paused" && this.isHalfEmpty())
            this.#feeder.onDrained(this);
        return item;
    }
    isHalfEmpty() {
        return this.#counted <= this.#bufferMessages / 2 && this.#characters <= this.#bufferCharacters / 2;
    }
    #drop() {
        this.#buffer.length = 0;
        this.#first = 0;
        this.#counted = 0;
        this.#characters = 0;
    }
    #wake() {
        const waiting = this.#waiting;
        this.#waiting = undefined;
        waiting?.();
    }
}
function isLiveNotice(item) {
    return item.kind === "lost" && item.range === undefined;
}

class Reader {
    #environment;
    #options;
    #single = new Map();
    #patterns = new Map();
    #connection;
    #frameBytesMax = Infinity;
    #toMove = new Set();
    #askSoon = new Set();
    #askLater = new Set();
    #refused = new WeakSet();
    constructor(environment, options) {
        this.#environment = environment;
        this.#options = options;
    }
    subscribe(filter, options) {
        const subscription = new Subscription(filter, options, this);
        const feeds = isPattern(filter) ? this.#patterns : this.#single;
        let feed = feeds.get(filter);
        if (feed === undefined) {
            feed = { filter, subscriptions: new Set(), state: "idle", retry: undefined };
            feeds.set(filter, feed);
        }
        const sibling = [...feed.subscriptions].find(({ flow }) => flow === "flowing");
        feed.subscriptions.add(subscription);
        if (sibling !== undefined)
            subscription.join(sibling);
        else if (feed.subscriptions.size > 1)
            this.#moveSoon(feed);
        for (const other of this.#overlapping(feed))
            if (other.state === "idle")
                this.#moveSoon(other);
        if (feed.state === "idle" && this.#connection !== undefined && !this.#toMove.has(feed) && !this.#askLater.has(feed)) {
            this.#askSoon.add(feed);
            if (this.#askSoon.size === 1)
                queueMicrotask(() => this.#askNew());
        }
        return subscription;
    }
    attach(connection, frameBytesMax) {
        this.#connection = connection;
        this.#frameBytesMax = frameBytesMax > 0 ? frameBytesMax : Infinity;
        const feeds = this.#feeds();
        for (const subscription of subscriptionsOf(feeds)) {
            subscription.unasked();
            if (subscription.flow === "switching")
                subscription.goOn();
        }
        this.#ask(feeds);
    }
    detach() {
        this.#connection = undefined;
        this.#toMove.clear();
        this.#askSoon.clear();
        this.#askLater.clear();
        for (const feed of this.#feeds()) {
            feed.state = "idle";
            this.#environment.clearTimer(feed.retry);
            for (const subscription of feed.subscriptions)
                subscription.interrupted();
        }
    }
    endAll(error) {
        for (const feed of this.#feeds())
            this.#endFeed(feed, error);
    }
    onEvent(event, size) {
        switch (event.kind) {
            case "delivery":
                return this.#offer(event.message.topic, (subscription) => subscription.takeMessage(event.message, size));
            case "lost":
                return this.#offer(event.lost.topic, (subscription) => subscription.takeLost(event.lost));
            case "reset":
                return this.#offer(event.topic, (subscription) => subscription.takeReset(event.topic, event.epoch));
            case "unsubscribed": {
                const feed = this.#single.get(event.filter) ?? this.#patterns.get(event.filter);
                if (feed !== undefined)
                    this.#failed(feed, event.error);
                return;
            }
            default:
                return;
        }
    }
    onDrained(subscription) {
        const feed = this.#feedOf(subscription);
        if (feed === undefined)
            return;
        subscription.flow = "switching";
        subscription.unpaused();
        this.#moveSoon(feed);
    }
    onClose(subscription) {
        const feed = this.#feedOf(subscription);
        if (feed?.subscriptions.delete(subscription))
            this.#stopIfIdle(feed);
    }
    #offer(topic, take) {
        const single = this.#single.get(topic);
        if (single !== undefined)
            this.#offerTo(single, topic, take);
        for (const feed of this.#patterns.values()) {
            if (matches(feed.filter, topic))
                this.#offerTo(feed, topic, take);
        }
    }
    #offerTo(feed, topic, take) {
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
                    subscription.end(new BongsuError("too_many", `more than ${TOPICS_MAX} topics match ${feed.filter}; subscribe to narrower filters`));
                    break;
            }
        }
    }
    #stopIfIdle(feed) {
        const { filter, subscriptions } = feed;
        if (this.#takersOf(feed).length > 0)
            return;
        if (subscriptions.size === 0) {
            this.#environment.clearTimer(feed.retry);
            this.#toMove.delete(feed);
            this.#askSoon.delete(feed);
            this.#askLater.delete(feed);
            (isPattern(filter) ? this.#patterns : this.#single).delete(filter);
        }
        if (feed.state === "idle" || (feed.state === "asking" && subscriptions.size > 0))
            return;
        feed.state = "idle";
        this.#connection?.ask({ unsubscribe: { filters: [filter] } }, this.#options.requestTimeoutMs, () => { });
    }
    #askNew() {
        const feeds = [...this.#askSoon];
        this.#askSoon.clear();
        if (feeds.length > 0)
            this.#ask(feeds);
    }
    #moveSoon(feed) {
        if (this.#connection === undefined)
            return;
        this.#toMove.add(feed);
        if (this.#toMove.size === 1)
            queueMicrotask(() => this.#move());
    }
    #move() {
        const connection = this.#connection;
        if (connection === undefined || this.#toMove.size === 0)
            return;
        const feeds = this.#withOverlapping(this.#toMove);
        if (feeds.some(({ state }) => state === "asking"))
            return;
        this.#toMove.clear();
        for (const feed of feeds) {
            this.#askSoon.delete(feed);
            this.#askLater.delete(feed);
        }
        for (const subscription of subscriptionsOf(feeds))
            subscription.unasked();
        const moving = subscriptionsOf(feeds).filter(({ flow }) => flow !== "paused");
        for (const subscription of moving) {
            subscription.flow = "switching";
            subscription.interrupted();
        }
        const filters = feeds.map(({ filter }) => filter);
        const { requestTimeoutMs } = this.#options;
        inPieces(filters, FILTERS_PER_REQUEST_MAX).forEach((piece, i, { length }) => {
            connection.ask({ unsubscribe: { filters: piece } }, requestTimeoutMs, () => {
                if (i + 1 < length)
                    return;
                for (const subscription of moving) {
                    if (subscription.flow === "switching")
                        subscription.goOn();
                }
            });
        });
        this.#ask(feeds);
    }
    #withOverlapping(feeds) {
        const found = new Set(feeds);
        const others = new Set(this.#feeds().filter((feed) => !found.has(feed)));
        for (const feed of found) {
            for (const other of this.#overlapping(feed)) {
                if (others.delete(other))
                    found.add(other);
            }
        }
        return [...found];
    }
    #overlapping(feed) {
        const candidates = isPattern(feed.filter) ? this.#feeds() : [...this.#patterns.values()];
        return candidates.filter((other) => other !== feed && overlaps(feed.filter, other.filter));
    }
    #takersOf(feed) {
        const subscriptions = [...feed.subscriptions];
        const [only] = subscriptions;
        if (subscriptions.length > 1 || only?.flow !== "paused")
            return subscriptions;
        return this.#overlapping(feed).length > 0 ? subscriptions : [];
    }
    #ask(feeds) {
        const connection = this.#connection;
        if (connection === undefined)
            return;
        const older = feeds.filter(({ subscriptions }) => [...subscriptions].some(({ since }) => since !== undefined));
        if (older.length > 0 && older.length < feeds.length) {
            const floor = lowestPlaces(older.flatMap((feed) => this.#takersOf(feed)));
            for (const feed of feeds) {
                if (older.includes(feed))
                    continue;
                this.#askLater.add(feed);
                for (const subscription of feed.subscriptions)
                    subscription.asked(floor);
            }
            this.#ask(older);
            this.#askRest();
            return;
        }
        const floor = lowestPlaces(feeds.flatMap((feed) => this.#takersOf(feed)));
        let batch = [];
        let characters = 0;
        const flush = () => {
            const asked = batch;
            if (asked.length > 0)
                this.#send(connection, asked);
            batch = [];
            characters = 0;
        };
        for (const feed of feeds) {
            const takers = this.#takersOf(feed);
            feed.state = takers.length > 0 ? "asking" : "idle";
            if (takers.length === 0)
                continue;
            for (const subscription of takers)
                subscription.asked(floor);
            const text = JSON.stringify(encodeSubscription(resumption(feed.filter, takers, floor)));
            if (exceeds(text, this.#frameBytesMax)) {
                feed.state = "idle";
                const { size } = floor;
                this.#endFeed(feed, new BongsuError("too_many", `${size} topics do not fit into a frame; use narrower filters`));
                continue;
            }
            if (batch.length === FILTERS_PER_REQUEST_MAX || exceeds(text, this.#frameBytesMax - 3 * characters))
                flush();
            batch.push({ feed, takers, text });
            characters += text.length + 1;
        }
        flush();
    }
    #askRest() {
        if (this.#askLater.size === 0 || this.#feeds().some(({ state }) => state === "asking"))
            return;
        const feeds = [...this.#askLater];
        this.#askLater.clear();
        this.#ask(feeds);
    }
    #send(connection, asked) {
        const subscriptions = asked.map(({ text }) => text).join(",");
        connection.askText(`{"subscribe":{"subscriptions":[${subscriptions}]}}`, this.#options.requestTimeoutMs, (reply) => {
            const results = resultsOf(reply, asked.length);
            asked.forEach(({ feed, takers }, i) => {
                const result = results[i];
                if (feed.subscriptions.size === 0)
                    return;
                if (result instanceof BongsuError)
                    return this.#failed(feed, result);
                feed.state = "reading";
                this.#refused.delete(feed);
                const joined = [...feed.subscriptions].filter(({ since }) => since === undefined);
                for (const subscription of new Set([...takers, ...joined]))
                    subscription.made(result);
                this.#stopIfIdle(feed);
            });
            this.#askRest();
            if (this.#toMove.size > 0)
                this.#move();
        });
    }
    #failed(feed, error) {
        feed.state = "idle";
        for (const subscription of feed.subscriptions)
            subscription.interrupted();
        if (error.code === "unauthenticated" && !this.#refused.has(feed)) {
            this.#refused.add(feed);
            const connection = this.#connection;
            this.#options.refreshToken().then(() => this.#askAgain(feed), () => {
                if (connection === this.#connection)
                    this.#endFeed(feed, error);
            });
        }
        else if (error.retryable) {
            const delayMs = error.retryAfterMs ?? this.#options.retryMs;
            const spreadMs = Math.round(delayMs * (1 + this.#environment.random() / 2));
            this.#environment.clearTimer(feed.retry);
            feed.retry = this.#environment.setTimer(spreadMs, () => this.#askAgain(feed));
        }
        else {
            this.#endFeed(feed, error);
        }
    }
    #askAgain(feed) {
        if (feed.subscriptions.size > 0 && feed.state === "idle")
            this.#moveSoon(feed);
    }
    #endFeed(feed, error) {
        for (const subscription of [...feed.subscriptions])
            subscription.end(error);
    }
    #feeds() {
        return [...this.#single.values(), ...this.#patterns.values()];
    }
    #feedOf({ filter }) {
        return this.#single.get(filter) ?? this.#patterns.get(filter);
    }
}
function subscriptionsOf(feeds) {
    return feeds.flatMap(({ subscriptions }) => [...subscriptions]);
}
function lowestPlaces(subscriptions) {
    const lowest = new Map();
    for (const { cursor } of subscriptions) {
        for (const [topic, place] of cursor.places()) {
            const other = lowest.get(topic);
            if (other === undefined || comparePositions(place, other) < 0)
                lowest.set(topic, place);
        }
    }
    return lowest;
}
function resumption(filter, takers, floor) {
    if (!isPattern(filter)) {
        const place = floor.get(filter);
        return { filter, from: place === undefined ? startOf(takers) : { after: place } };
    }
    const seen = [...floor].filter(([topic]) => matches(filter, topic)).slice(0, TOPICS_MAX);
    return { filter, from: startOf(takers), seen };
}
function startOf(takers) {
    const times = takers.flatMap(({ since }) => (since === undefined ? [] : [since]));
    return times.length > 0 ? { time: Math.min(...times) } : takers[0]?.from;
}
function resultsOf(reply, count) {
    if (reply.error !== undefined)
        return Array.from({ length: count }, () => reply.error);
    const results = decodeResults(reply.body["subscribed"], "subscribed", decodeSubscribed);
    if (results.length !== count)
        throw new TypeError(`${results.length} results for ${count} subscriptions`);
    return results;
}
function inPieces(list, size) {
    const pieces = [];
    for (let at = 0; at < list.length; at += size)
        pieces.push(list.slice(at, at + size));
    return pieces;
}

const MEMBERSHIPS_MAX = 1_000;
class Client {
    #environment;
    #emitter = new Emitter();
    #requestTimeoutMs;
    #link;
    #outbox;
    #reader;
    #memberships = new Map();
    #isClosing;
    constructor(url, options = {}) {
        this.#environment = options.environment ?? realEnvironment();
        this.#requestTimeoutMs = options.requestTimeoutMs ?? 15_000;
        const backoff = {
            firstMs: options.reconnectFirstMs ?? 500,
            mostMs: options.reconnectMostMs ?? 30_000,
        };
        const refreshToken = () => this.#link.refreshToken();
        this.#outbox = new Outbox(this.#environment, { requestsMax: options.queueRequests ?? 1_000, charactersMax: options.queueCharacters ?? 8 * 1_024 * 1_024 }, refreshToken);
        this.#reader = new Reader(this.#environment, {
            requestTimeoutMs: this.#requestTimeoutMs,
            retryMs: backoff.firstMs,
            refreshToken,
        });
        this.#link = new Link({
            url: websocketUrl(url),
            WebSocket: options.WebSocket ?? globalWebSocket(),
            token: options.token,
            connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
            requestTimeoutMs: this.#requestTimeoutMs,
            backoff,
        }, this.#environment, {
            onState: (state) => this.#emitter.emit("state", state),
            onOpen: (connection) => this.#opened(connection),
            onEvent: (event, size) => this.#reader.onEvent(event, size),
            onDown: () => {
                this.#reader.detach();
                this.#outbox.detach();
            },
            onClosed: (error) => this.#closed(error),
        });
        queueMicrotask(() => this.#link.start());
    }
    get state() {
        return this.#link.state;
    }
    on(name, listener) {
        return this.#emitter.on(name, listener);
    }
    opened() {
        return new Promise((resolve, reject) => {
            const settle = (state) => {
                if (state.name === "open")
                    resolve(state.session);
                else if (state.name === "closed")
                    reject(state.error ?? new BongsuError("closed", "the client was closed"));
                else
                    return false;
                return true;
            };
            if (settle(this.state))
                return;
            const stop = this.on("state", (state) => {
                if (settle(state))
                    stop();
            });
        });
    }
    subscribe(filter, options = {}) {
        const subscription = this.#reader.subscribe(filter, options);
        if (this.state.name === "closed" || this.#isClosing !== undefined)
            subscription.end(this.#whyClosed());
        return subscription;
    }
    async publish(topic, data, options = {}) {
        const id = options.id ?? this.#environment.newMessageId();
        const { contentType, headers, expect, timeoutMs } = options;
        const message = encodeMessage({ topic, data, contentType, headers, id, expect });
        return await this.#request({ publish: { messages: [message] } }, (reply) => {
            const [result] = decodeResults(reply.body["published"], "published", decodePublished);
            if (result instanceof BongsuError)
                throw result;
            if (result === undefined)
                throw new TypeError("no result");
            return { ...result, id };
        }, timeoutMs, id);
    }
    async history(topic, options = {}) {
        const range = options.from === undefined ? { before: options.before ?? "latest" } : { from: options.from };
        return await this.#page(topic, range, options.limit ?? 100);
    }
    presence(topic) {
        return new Presence(topic, {
            enter: (name, info) => this.#enter(name, info),
            leave: (name) => this.#leave(name),
            members: (name) => this.#members(name),
            subscribe: (filter) => this.subscribe(filter),
        });
    }
    async ping() {
        const startedMs = this.#environment.now();
        const time = await this.#request({ ping: {} }, (reply) => Number(object(reply.body["pong"], "pong")["time"] ?? 0));
        return { roundTripMs: this.#environment.now() - startedMs, time };
    }
    refreshToken() {
        return this.#link.refreshToken();
    }
    wake() {
        this.#link.wake();
    }
    close() {
        this.#isClosing ??= this.#close();
        return this.#isClosing;
    }
    async #close() {
        this.#reader.endAll(undefined);
        if (this.state.name === "open") {
            const down = new Promise((resolve) => {
                const stop = this.on("state", () => {
                    stop();
                    resolve();
                });
            });
            await Promise.race([this.#outbox.empty(), down]);
        }
        this.#link.close(undefined);
    }
    #opened(connection) {
        const { session } = this.state;
        for (const [topic, info] of this.#memberships) {
            connection.ask({ enter: { topic, info } }, this.#requestTimeoutMs, (reply) => {
                if (reply.error !== undefined && !reply.error.retryable)
                    this.#memberships.delete(topic);
            });
        }
        this.#reader.attach(connection, session.frameBytesMax);
        this.#outbox.attach(connection, session.frameBytesMax);
    }
    #closed(error) {
        this.#outbox.failAll(error ?? new BongsuError("closed", "the client was closed"));
        this.#reader.endAll(error);
    }
    #whyClosed() {
        const { state } = this;
        return (state.name === "closed" ? state.error : undefined) ?? new BongsuError("closed", "the client was closed");
    }
    #request(command, decode, timeoutMs, messageId) {
        if (this.state.name === "closed" || this.#isClosing !== undefined)
            return Promise.reject(this.#whyClosed());
        return this.#outbox.request(command, {
            timeoutMs: timeoutMs ?? this.#requestTimeoutMs,
            decode,
            ...(messageId === undefined ? {} : { messageId }),
        });
    }
    async #page(topic, range, limit) {
        const page = await this.#request({ history: encodeHistory(topic, range, limit) }, (reply) => decodePage(object(reply.body["history"], "history")));
        const last = page.messages.at(-1)?.position;
        const next = async () => {
            if (!page.more || last === undefined)
                return undefined;
            return await this.#page(topic, "from" in range ? { from: { after: last } } : { before: last }, limit);
        };
        return { ...page, next };
    }
    async #enter(topic, info) {
        if (this.#memberships.size >= MEMBERSHIPS_MAX && !this.#memberships.has(topic)) {
            throw new BongsuError("too_many", `a client is a member of at most ${MEMBERSHIPS_MAX} topics`);
        }
        await this.#request({ enter: { topic, info } }, () => { });
        this.#memberships.set(topic, info);
    }
    async #leave(topic) {
        this.#memberships.delete(topic);
        await this.#request({ leave: { topic } }, () => { });
    }
    #members(topic) {
        return this.#request({ members: { topic } }, (reply) => decodeMembers(object(reply.body["members"], "members")));
    }
}
function websocketUrl(url) {
    const parsed = new URL(url);
    if (parsed.protocol === "http:")
        parsed.protocol = "ws:";
    if (parsed.protocol === "https:")
        parsed.protocol = "wss:";
    if (parsed.protocol !== "ws:" && parsed.protocol !== "wss:") {
        throw new TypeError(`the address of a broker begins with ws:// or wss://, this one is ${parsed.href}`);
    }
    return parsed.href;
}
function globalWebSocket() {
    const { WebSocket: found } = globalThis;
    if (found === undefined) {
        throw new TypeError("no global WebSocket: hand one in, `new Client(url, { WebSocket })`, with WebSocket from the package ws");
    }
    return found;
}

export { Client, BongsuError, Presence, PresenceWatch, Subscription };
