// The room's look, which all three pages share. How messages come and go is the page's own script.

const ROWS_MAX = 500;
/** One level of a topic's name, with nothing in it that any of the protocols reads as something else. */
const LEVEL = /^[\p{L}\p{N}](?:[\p{L}\p{N} ._-]*[\p{L}\p{N}])?$/u;

/** What carries a window, by the first word of its name in the broker's events. */
const CARRIERS = { websocket: "WebSocket", sockjs: "SockJS", event: "EventSource" };

const element = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const room = query.get("room") || "lobby";
const name = query.get("name") || "";

/**
 * Enters the room once there is a name.
 *
 * `connect({ broker, topics, show })` connects, shows what comes, and returns how to publish: a function of a message and its id that
 * resolves when the broker has stored it, whatever happens to the connection in between.
 */
export async function enter(connect) {
  element("room").textContent = room;
  for (const link of document.querySelectorAll("nav a")) {
    if (new URL(link.href).pathname === location.pathname) link.setAttribute("aria-current", "page");
    else link.search = new URLSearchParams({ room });
  }
  if (!LEVEL.test(name) || !LEVEL.test(room)) return askName();

  document.title = `${room} · ${name}`;
  document.querySelector("main").hidden = false;
  element("text").focus();
  const publish = await connect({
    broker: document.querySelector("meta[name=broker]").content,
    topics: {
      messages: `chat/${room}/messages`,
      who: `chat/${room}/who`,
      // Nothing comes on it. The broker tells the back end who reads it: see backend.rs.
      here: `chat/${room}/here/${name}`,
    },
    show: { state, message, who, note },
  });
  element("say").addEventListener("submit", (event) => {
    event.preventDefault();
    void say(publish);
  });
}

function askName() {
  element("enter").hidden = false;
  element("state").hidden = true;
  element("name").value = name;
  element("where").value = LEVEL.test(room) ? room : "lobby";
  const fields = { name: element("name"), room: element("where") };
  for (const field of Object.values(fields)) {
    field.addEventListener("input", () => {
      const isGood = field.value.trim() === "" || LEVEL.test(field.value.trim());
      field.setCustomValidity(isGood ? "" : element("name-hint").textContent);
    });
  }
  element("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    location.search = new URLSearchParams({ room: fields.room.value.trim(), name: fields.name.value.trim() });
  });
  fields.name.focus();
}

/** `connecting`, `open`, `waiting` (it will connect again) or `closed` (it will not). */
function state(to, text = to === "open" ? "connected" : to === "waiting" ? "connecting again" : to) {
  const pill = element("state");
  if (pill.dataset.state === to && pill.textContent === text) return;
  pill.dataset.state = to;
  pill.textContent = text;
}

/** `data` is what a page published: whose and which text. Nobody checked it. */
function message({ offset, time, data }) {
  const from = String(data?.from ?? "somebody");
  const row = part("li", from === name ? "message own" : "message");
  const meta = part("p", "meta");
  const at = part("time", "", new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  at.dateTime = new Date(time).toISOString();
  const place = part("span", "offset", `#${offset}`);
  place.title = "its offset in the room's log";
  meta.append(part("span", "author", from === name ? `${from} (you)` : from), at, place);
  row.append(meta, part("p", "body", String(data?.text ?? "")));
  append(row);
}

/** The newest list of the back end. */
function who(here) {
  const people = here.map(({ name: who, via }) => {
    const row = part("li", "");
    row.append(part("span", "author", who === name ? `${who} (you)` : who));
    row.append(part("span", "via", [...new Set(via.map(carrier))].join(", ")));
    return row;
  });
  element("here").replaceChildren(...people);
  element("here-count").textContent = here.length;
}

/** What else there is to know of the messages: some are gone, or the log began anew. */
function note(text) {
  append(part("li", "note", text));
}

async function say(publish) {
  const input = element("text");
  const text = input.value.trim();
  if (text === "") return;
  input.value = "";
  element("notice").textContent = "";
  const row = part("li", "", text);
  element("pending").append(row);
  try {
    // With an id, so that a second attempt is not a second message.
    await publish({ from: name, text }, newId());
  } catch (error) {
    element("notice").textContent = `Not sent: ${error.message}`;
    if (input.value === "") input.value = text;
  } finally {
    row.remove();
  }
}

/** 128 random bits. `crypto.randomUUID` is for pages of https and of this machine only. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const carrier = (via) => CARRIERS[via.split("-")[0]] ?? via;

/** Whatever somebody wrote is text, never markup. */
function part(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  made.textContent = text;
  return made;
}

/** Adds a row, and stays at the end unless somebody reads further up. */
function append(row) {
  const log = element("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(row);
  while (log.childElementCount > ROWS_MAX) log.firstElementChild.remove();
  if (isAtEnd || row.classList.contains("own")) log.scrollTop = log.scrollHeight;
}
