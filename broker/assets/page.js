// The page: subscribes, publishes, and shows what came and how the connection fares. What it shows of messages is text.

import { BongsuError, Client } from "./bongsu.js";

const LOG_ROWS_MAX = 500;
const OWN_IDS_MAX = 1_000;

const element = (id) => document.getElementById(id);
const settings = readSettings();
const ownIds = new Set();

/** The button "Cut the network": connections end without a goodbye, and no new ones begin until it is released. */
const network = {
  isCut: false,
  sockets: new Set(),
  toggle() {
    this.isCut = !this.isCut;
    if (this.isCut) for (const socket of this.sockets) socket.cut();
  },
};

/** A WebSocket with a wire that can be cut: its owner hears of it at once, the other side whenever it notices. */
class CuttableWebSocket {
  #socket;
  #onClose = [];

  constructor(url, protocols) {
    if (network.isCut) throw new Error("the network is cut");
    this.#socket = new WebSocket(url, protocols);
    network.sockets.add(this);
    this.#socket.addEventListener("close", () => network.sockets.delete(this));
  }

  addEventListener(type, listener) {
    if (type === "close") this.#onClose.push(listener);
    this.#socket.addEventListener(type, (event) => {
      if (network.sockets.has(this) || type === "close") listener(event);
    });
  }

  send(data) {
    if (network.sockets.has(this)) this.#socket.send(data);
  }

  close(code, reason) {
    this.#socket.close(code, reason);
  }

  cut() {
    network.sockets.delete(this);
    this.#socket.close(4000, "cut");
    for (const listener of this.#onClose) listener({ code: 1006, reason: "the network is cut" });
  }
}

let client;
let reading;

element("subscribe").addEventListener("submit", (event) => {
  event.preventDefault();
  Object.assign(settings, {
    topic: element("topic").value.trim(),
    from: element("from").value,
    name: element("name").value.trim(),
  });
  writeSettings();
  subscribe();
});

element("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  publish();
});

element("cut").addEventListener("click", () => {
  network.toggle();
  const button = element("cut");
  button.setAttribute("aria-pressed", String(network.isCut));
  button.textContent = network.isCut ? "Mend the network" : "Cut the network";
  if (network.isCut) note(`Network cut${reading.place()}`, "warn");
  else client.wake();
});

element("authenticate").addEventListener("submit", (event) => {
  event.preventDefault();
  reading.stop();
  void client.close();
  connect(element("token").value.trim());
  subscribe();
});

window.addEventListener("hashchange", () => {
  const { topic, name, from } = readSettings();
  if (topic === settings.topic && name === settings.name && from === settings.from) return;
  element("topic").value = topic;
  element("name").value = name;
  element("from").value = from;
  element("subscribe").requestSubmit();
});

function connect(token) {
  let connections = 0;
  client = new Client(new URL("v1/ws", document.baseURI), {
    WebSocket: CuttableWebSocket,
    ...(token === "" ? {} : { token }),
  });
  client.on("state", (state) => {
    const pill = element("state");
    pill.dataset.state = state.name;
    pill.textContent = describe(state);
    if (state.name === "open") {
      connections += 1;
      element("connections").textContent = connections;
      element("session").textContent = state.session.session;
      element("node").textContent = state.session.node;
      if (connections > 1) note(`Connected again as ${state.session.session}${reading.place(", reading on")}`);
    }
  });
}

function describe(state) {
  switch (state.name) {
    case "open":
      return state.session.subject === "" ? "connected" : `connected as ${state.session.subject}`;
    case "waiting":
      return `disconnected, next try in ${(state.retryInMs / 1000).toFixed(1)} s`;
    case "closed":
      return state.error ? `closed: ${state.error.message}` : "closed";
    default:
      return "connecting";
  }
}

function subscribe() {
  reading?.stop();
  const { topic } = settings;
  const isPattern = /[+#]/.test(topic);
  element("target-label").hidden = !isPattern;
  element("target").required = isPattern;
  element("log").replaceChildren();
  element("pending").replaceChildren();
  element("empty").hidden = false;
  element("notice").textContent = "";
  document.title = `${topic} · Bongsu`;
  reading = new Reading(topic, startOf(settings.from), isPattern);
}

/** One subscription with all that is shown of it. */
class Reading {
  #counts = { received: 0, duplicates: 0, missing: 0, lost: 0, resets: 0 };
  /** By topic: the newest position that came. */
  #newest = new Map();
  #subscription;
  #presence;
  #watch;
  #isStopped = false;
  #askingMembers = false;
  #askMembersAgain = false;

  constructor(topic, from, isPattern) {
    this.#subscription = client.subscribe(topic, { from });
    this.#show();
    element("position").textContent = "–";
    void this.#read();
    element("present").replaceChildren();
    element("present-total").textContent = "";
    element("present-note").textContent = isPattern ? "Of single topics only." : "";
    if (!isPattern) void this.#join(topic);
  }

  stop() {
    this.#isStopped = true;
    this.#subscription.close();
    this.#watch?.close();
    this.#presence?.leave().catch(() => {});
  }

  /** Where reading is, as the end of a sentence. */
  place(before = "") {
    if (this.#newest.size !== 1) return "";
    const [[, { offset }]] = this.#newest;
    return `${before} after offset ${offset}`;
  }

  async #read() {
    try {
      for await (const item of this.#subscription.items()) {
        if (item.kind === "message") this.#message(item);
        else if (item.kind === "lost") this.#lost(item);
        else this.#reset(item);
        this.#show();
      }
    } catch (error) {
      if (!this.#isStopped) fail(error);
    }
  }

  #message(message) {
    this.#counts.received += 1;
    this.#place(message);
    const row = document.createElement("li");
    row.className = ownIds.has(message.id) ? "message own" : "message";
    const { author, text } = readable(message);
    const meta = part("div", "meta");
    meta.append(
      part("span", "author", author),
      part("time", "", new Date(message.time).toLocaleTimeString()),
      part("span", "offset", message.offset === undefined ? "live" : `#${message.offset}`),
    );
    if (message.topic !== settings.topic) meta.append(part("span", "offset", message.topic));
    row.append(meta, part("div", "body", text));
    append(row);
  }

  #place({ topic, position }) {
    if (position === undefined) return;
    const newest = this.#newest.get(topic);
    if (newest?.epoch === position.epoch) {
      if (position.offset <= newest.offset) this.#counts.duplicates += 1;
      else this.#counts.missing += position.offset - newest.offset - 1;
    }
    this.#newest.set(topic, position);
    element("position").textContent = `${position.epoch}:${position.offset}`;
  }

  #lost({ topic, count, range }) {
    this.#counts.lost += count ?? 0;
    if (range !== undefined) this.#newest.set(topic, { epoch: range.epoch, offset: range.until });
    note(`${count === undefined ? "Messages may be" : `${count} messages are`} lost of ${topic}`, "warn");
  }

  #reset({ topic }) {
    this.#counts.resets += 1;
    this.#newest.delete(topic);
    note(`The log of ${topic} was made anew`, "warn");
  }

  #show() {
    for (const [name, count] of Object.entries(this.#counts)) element(name).textContent = count;
  }

  async #join(topic) {
    this.#presence = client.presence(topic);
    this.#watch = this.#presence.watch();
    this.#watch.subscription.on("lost", () => this.#members());
    try {
      await this.#presence.enter({ name: settings.name });
      this.#members();
      for await (const _ of this.#watch) this.#members();
    } catch (error) {
      if (!this.#isStopped) element("present-note").textContent = error.message;
    }
  }

  /** Asks who is there; changes that come meanwhile are one more question together. */
  async #members() {
    this.#askMembersAgain = this.#askingMembers;
    if (this.#askingMembers || this.#isStopped) return;
    this.#askingMembers = true;
    try {
      const { members, total } = await this.#presence.members();
      if (this.#isStopped) return;
      element("present").replaceChildren(...members.map((member) => part("li", "", nameOf(member))));
      element("present-total").textContent = total;
      element("present-note").textContent = "";
    } catch (error) {
      if (!this.#isStopped) element("present-note").textContent = error.message;
    } finally {
      this.#askingMembers = false;
      if (this.#askMembersAgain) this.#members();
    }
  }
}

async function publish() {
  const input = element("text");
  const text = input.value.trim();
  if (text === "") return;
  const topic = element("target-label").hidden ? settings.topic : element("target").value.trim();
  input.value = "";
  input.focus();
  element("notice").textContent = "";
  const row = part("li", "", `sending: ${text}`);
  element("pending").append(row);
  const id = newId();
  try {
    await client.publish(topic, { from: settings.name, text }, { id });
  } catch (error) {
    fail(error);
    if (input.value === "") input.value = text;
  } finally {
    row.remove();
  }
}

/** An id by which this window knows its own messages again. */
function newId() {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  ownIds.add(id);
  if (ownIds.size > OWN_IDS_MAX) ownIds.delete(ownIds.values().next().value);
  return id;
}

/** Who wrote and what: of this page's messages their parts, of any other message its payload. */
function readable({ publisher, data, contentType, erased }) {
  const author = publisher || "anonymous";
  if (erased) return { author, text: "(erased)" };
  if (data instanceof Uint8Array) return { author, text: `(${data.length} bytes of ${contentType || "unknown type"})` };
  if (typeof data === "object" && data !== null && typeof data.text === "string") {
    const from = typeof data.from === "string" && data.from !== "" ? data.from : author;
    return { author: publisher === "" ? from : `${from} (${publisher})`, text: data.text };
  }
  return { author, text: typeof data === "string" ? data : JSON.stringify(data, null, 2) };
}

function nameOf({ session, subject, info }) {
  const name = typeof info?.name === "string" && info.name !== "" ? info.name : subject || session;
  const me = client.state.name === "open" && client.state.session.session === session;
  return me ? `${name} (you)` : name;
}

function part(tag, className, text) {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function note(text, kind = "") {
  append(part("li", `note ${kind}`.trim(), text));
}

/** Adds a row, keeps the newest, and stays at the end unless somebody reads further up. */
function append(row) {
  const log = element("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(row);
  while (log.childElementCount > LOG_ROWS_MAX) log.firstElementChild.remove();
  element("empty").hidden = true;
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function fail(error) {
  element("notice").textContent = error instanceof BongsuError ? error.message : String(error);
}

function startOf(from) {
  const [kind, count] = from.split(":");
  return kind === "last" ? { last: Number(count) } : kind;
}

function readSettings() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const options = [...element("from").options].map(({ value }) => value);
  return {
    topic: hash.get("topic") || "chat/lobby",
    name: hash.get("name") || `guest-${Math.floor(Math.random() * 900 + 100)}`,
    from: options.includes(hash.get("from")) ? hash.get("from") : "last:50",
  };
}

function writeSettings() {
  const { topic, name, from } = settings;
  const hash = `#${new URLSearchParams({ topic, name, from })}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
}

// Last, since it needs everything above.
connect("");
element("topic").value = settings.topic;
element("from").value = settings.from;
element("name").value = settings.name;
writeSettings();
subscribe();
