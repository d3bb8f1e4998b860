// One topic: its messages, what comes now, who reads it, and what can be done to it.

import { ask, follow } from "../api.js";
import { confirm } from "../dialog.js";
import { address, announce, h, link, put } from "../dom.js";
import { bytes, clock, count, fromLocal, rate } from "../format.js";
import { bodyForm } from "../form.js";
import { keepFollowing, lines } from "../lines.js";
import { offers, only, takes } from "../offer.js";
import { badge, button, empty, factsOf, field, heading, input, loaded, problemBox, section, select, tabs, when, whenBrief } from "../parts.js";
import { payloadView, preview } from "../payload.js";
import { rowsOf, table } from "../table.js";
import { browseConnections } from "./connections.js";
import { publishForm } from "./publish.js";
import { exportPanel, importPanel, purgePanel, deletePanel } from "./topic-whole.js";

const ONE = "GET /v1/topics/{topic}";
const MESSAGES = "GET /v1/topics/{topic}/messages";
const TAIL = "GET /v1/topics/{topic}/tail";
const ERASE = "DELETE /v1/topics/{topic}/messages/{offset}";
const REPUBLISH = "POST /v1/topics/{topic}/messages/{offset}/republish";

/** Messages on one page. */
const PAGE = 50;

const VIEWS = [
  ["messages", "Messages", MESSAGES, showMessages],
  ["tail", "Live tail", TAIL, showTail],
  ["publish", "Publish", "POST /v1/topics/{topic}/messages", showPublish],
  ["subscribers", "Subscribers", "GET /v1/connections", showSubscribers],
  ["presence", "Presence", "GET /v1/presence/{topic}", showPresence],
  ["whole", "Export and delete", "GET /v1/topics/{topic}/export", showWhole],
];

export const topic = {
  key: "topics",
  title: "Topic",
  needs: ["GET /v1/topics"],
  async render(page) {
    const { root, params, query, signal } = page;
    const name = params.join("/");
    const views = VIEWS.filter(([, , operation]) => offers(operation));
    const view = views.find(([key]) => key === query.get("view")) ?? views[0];
    const about = h("div");
    const box = h("div", { class: "view" });
    const items = views.map(([key, text]) => ({ key, text, to: ["topics", name], query: { view: key } }));
    put(root, heading(name, { back: { to: ["topics"], text: "Topics" } }), about, items.length > 0 && tabs("Of this topic", items, view?.[0]), box);
    const again = () => (offers(ONE) ? loaded(about, async () => (await ask(ONE, { path: { topic: name }, signal })).data, summary) : undefined);
    again();
    if (view) await view[3]({ ...page, name, box, again });
  },
};

function summary(record) {
  return factsOf(record, {
    first: ["kind", "messages", "bytes", "first", "head", "subscribers", "messages_per_second", "published_at"],
    skip: ["topic", "name"],
    show: { kind: (kind) => badge(kind), messages: count, bytes, messages_per_second: rate, subscribers: count, policy: (policy) => (typeof policy === "string" ? link(["policies"], policy) : h("code", {}, JSON.stringify(policy))) },
  });
}

const offsetOf = (message) => message.position?.offset ?? message.offset;
const timeOf = (message) => message.time ?? message.published_at;

async function showMessages({ name, box, query, signal, again }) {
  const from = query.get("from") ?? "latest";
  const isOffset = /^\d+$/.test(from);
  const where = select([["latest", "the newest"], ["earliest", "the oldest"], ["offset", "from an offset"], ["time", "from a time"]], query.get("since") ? "time" : isOffset ? "offset" : from);
  const offset = input({ inputmode: "numeric", pattern: "[0-9]+", value: isOffset ? from : "" });
  const since = input({ type: "datetime-local", step: 1, value: query.get("at") ?? "" });
  const search = input({ type: "search", "data-search": true, maxlength: 255, value: query.get("search") ?? "" });
  const [offsetField, sinceField] = [field("Offset", offset), field("Time", since)];
  const arrange = () => {
    offsetField.hidden = where.value !== "offset";
    sinceField.hidden = where.value !== "time";
    offset.required = where.value === "offset";
    since.required = where.value === "time";
  };
  where.addEventListener("change", arrange);
  arrange();
  const form = h("form", { class: "filters", role: "search" }, field("Show", where), offsetField, sinceField, takes(MESSAGES, "search") && field("Containing", search), h("button", { type: "submit", class: "primary" }, "Show"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const to = { from: where.value === "offset" ? offset.value : where.value === "time" ? undefined : where.value, search: search.value };
    if (where.value === "time") Object.assign(to, { since: fromLocal(since.value), at: since.value });
    location.hash = address(["topics", name], to);
  });
  const list = h("div");
  put(box, form, list);
  const asked = { from: query.get("since") ? undefined : from, since: query.get("since"), before: query.get("before"), after: query.get("after"), search: query.get("search"), limit: PAGE };
  if (asked.before || asked.after) delete asked.from;
  const load = async () => (await ask(MESSAGES, { path: { topic: name }, query: only(MESSAGES, asked), signal })).data;
  const show = (page) => messagesOf(page, { name, query, reload: () => Promise.all([loaded(list, load, show), again()]) });
  await loaded(list, load, show);
}

function messagesOf(page, { name, query, reload }) {
  const messages = rowsOf(page, "messages");
  const search = query.get("search") ?? undefined;
  // A search looks at a bounded number of messages, and says where to go on.
  const further = search && page.next && link(["topics", name], "Search further", { after: page.next, search }, { class: "button" });
  const looked = search && page.looked_at !== undefined && h("p", { class: "hint" }, `${count(page.looked_at)} messages were looked at.`);
  if (messages.length === 0) return h("div", { class: "stack view" }, empty(search ? "No message here contains that." : "There are no messages here."), looked, further && h("div", { class: "buttons" }, further));
  const offsets = messages.map(offsetOf).filter(Number.isFinite);
  const [least, most] = [Math.min(...offsets), Math.max(...offsets)];
  const first = page.first?.offset ?? 1;
  const head = page.head?.offset;
  const pager = h(
    "div",
    { class: "pager", role: "group", "aria-label": "Pages" },
    !search && takes(MESSAGES, "before") && least > first && link(["topics", name], "Older", { before: least }, { class: "button" }),
    h("span", {}, `Offsets ${count(least)} to ${count(most)}, ${offsets[0] > offsets.at(-1) ? "newest" : "oldest"} first`),
    further,
    !search && (head === undefined || most < head) && link(["topics", name], "Newer", { from: most + 1 }, { class: "button" }),
  );
  return [h("ol", { class: "messages", "aria-label": "Messages" }, messages.map((message) => h("li", {}, messageView(message, { name, reload })))), looked, pager];
}

/** One message: a line, and all of it when opened. */
function messageView(message, { name, reload }) {
  const offset = offsetOf(message);
  const isErased = message.erased === true;
  const inside = h("div", { class: "message-inside" });
  const line = h(
    "summary",
    {},
    h("span", { class: "offset" }, offset === undefined ? "live" : `#${offset}`),
    h("span", { class: "quiet" }, when(timeOf(message))),
    message.publisher && h("span", { class: "publisher" }, message.publisher),
    isErased ? badge("erased", "wait") : h("span", { class: "preview" }, preview(message)),
  );
  const element = h("details", { class: "message" }, line, inside);
  const draw = () => {
    if (!element.open || inside.hasChildNodes()) return;
    put(inside, payloadView(message, `${name}-${offset ?? "live"}`), factsOf(message, { first: ["position", "time", "publisher", "type", "id", "size"], show: { size: bytes, time: when }, skip: ["data", "json", "text", "bytes", "base64", "payload", "topic", "offset", "epoch"] }), reload && actions(message, { name, offset, reload, inside }));
  };
  element.addEventListener("toggle", draw);
  return element;
}

function actions(message, { name, offset, reload, inside }) {
  if (offset === undefined) return undefined;
  const path = { topic: name, offset };
  const republish = offers(REPUBLISH) && button("Republish…", () => {
    const form = bodyForm(REPUBLISH, { labels: { to: "To topic", id: "Its id" } });
    confirm({
      title: "Republish this message",
      text: `What message ${offset} of ${name} holds is published again, as a new message at the end of this topic or another one.`,
      fields: form.fields,
      action: "Republish",
      kind: "primary",
      act: async () => {
        await ask(REPUBLISH, { path, body: form.read() });
        return () => reload().then(() => announce("Published again."));
      },
    });
  }, { class: "small" });
  const erase = offers(ERASE) && !message.erased && button("Erase…", () =>
    confirm({
      title: "Erase this message",
      text: `The payload of message ${offset} of ${name} is destroyed, for every reader and on every node. This cannot be undone.`,
      name: String(offset),
      action: "Erase",
      act: async () => {
        await ask(ERASE, { path });
        return () => reload().then(() => announce(`Message ${offset} was erased.`));
      },
    }), { class: "small danger" });
  return (republish || erase) && h("div", { class: "buttons" }, republish, erase);
}

async function showTail({ name, box, signal, query }) {
  const live = lines(`What comes on ${name}`, ({ event, data }) => {
    const message = data?.delivery ?? (data?.position ? data : undefined);
    if (message) return messageView(message, { name });
    return h("p", { class: "hint" }, `${clock(new Date())} ${event}: ${typeof data === "string" ? data : JSON.stringify(data)}`.slice(0, 2000));
  });
  const outcome = h("div");
  put(box, outcome, live.element);
  keepFollowing(signal, live.say, () => follow(TAIL, { path: { topic: name }, query: only(TAIL, { from: query.get("from") }), signal }, live.add)).catch((error) => put(outcome, problemBox(error)));
}

async function showPublish({ name, box, again }) {
  put(box, section("Publish a message", publishForm({ topic: name, done: again })));
}

async function showSubscribers({ name, box, signal }) {
  await browseConnections({ box, fixed: { topic: name }, query: new URLSearchParams(), signal });
}

async function showPresence({ name, box, signal }) {
  const load = async () => (await ask("GET /v1/presence/{topic}", { path: { topic: name }, signal })).data;
  await loaded(box, load, (page) => {
    const members = rowsOf(page, "members");
    const columns = [
      { title: "Subject", header: true, cell: (row) => row.subject || "anonymous" },
      { title: "Session", cell: (row) => link(["connections", row.session], row.session) },
      { title: "Since", cell: (row) => whenBrief(row.since) },
      { title: "Says of itself", number: true, cell: (row) => bytes(row.info_bytes) },
    ];
    const cut = page.total > members.length && h("p", { class: "hint" }, `${count(members.length)} of ${count(page.total)} who are present.`);
    return members.length ? [table("Who is present", columns, members), cut] : empty("Nobody is present.");
  });
}

async function showWhole(page) {
  put(page.box, exportPanel(page), importPanel(page), purgePanel(page), deletePanel(page));
}
