// Connections: who is here, and what of.

import { ask } from "../api.js";
import { confirm } from "../dialog.js";
import { address, announce, h, link, put } from "../dom.js";
import { bytes, count } from "../format.js";
import { offers, only, parameters } from "../offer.js";
import { badge, button, code, factsOf, field, heading, input, loaded, position, section, select, whenBrief } from "../parts.js";
import { listing, rowsOf, table } from "../table.js";

const LIST = "GET /v1/connections";
const ONE = "GET /v1/connections/{session}";
const DISCONNECT = "DELETE /v1/connections/{session}";

/** What the list may be narrowed by, as far as the broker takes it. */
const FILTERS = ["subject", "address", "transport", "topic", "node"];

/** Whose it is. The empty subject is that of all anonymous clients. */
export const subjectOf = (subject) => (subject ? (offers("GET /v1/users/{subject}") ? link(["users", subject], subject) : subject) : "anonymous");

const COLUMNS = [
  { title: "Session", header: true, cell: (row) => link(["connections", row.session], row.session, {}, { class: "name" }) },
  { title: "Subject", wide: true, cell: (row) => subjectOf(row.subject) },
  { title: "Address", cell: (row) => code(row.address) },
  { title: "Transport", cell: (row) => badge(row.transport ?? "–") },
  { title: "Node", cell: (row) => row.node ?? "–" },
  { title: "Subscriptions", number: true, cell: (row) => count(row.subscriptions) },
  { title: "Waiting", number: true, cell: (row) => bytes(row.waiting_bytes) },
  { title: "Since", cell: (row) => whenBrief(row.began) },
];

export const connections = {
  key: "connections",
  title: "Connections",
  needs: [LIST],
  async render({ root, query, signal }) {
    const box = h("div");
    put(root, heading("Connections"), box);
    await browseConnections({ box, query, signal, searchable: true });
  },
};

/** A list of connections with its filters; `fixed` ones are not shown. */
export async function browseConnections({ box, query, fixed = {}, signal, searchable }) {
  const known = parameters(LIST).filter(({ name }) => FILTERS.includes(name) && !(name in fixed));
  const controls = new Map(known.map(({ name, schema }, i) => [name, controlOf(name, schema, query.get(name) ?? "", i === 0)]));
  const form = h("form", { class: "filters", role: "search" }, [...controls].map(([name, control]) => field(name.charAt(0).toUpperCase() + name.slice(1), control)), h("button", { type: "submit", class: "primary" }, "Search"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = address(["connections"], Object.fromEntries([...controls].map(([name, control]) => [name, control.value])));
  });
  const list = listing({
    caption: "Connections",
    columns: COLUMNS,
    none: query.size ? "No connection like that." : "Nobody is connected.",
    load: async (after) => {
      const asked = only(LIST, { ...Object.fromEntries(query), ...fixed, after, limit: 50 });
      const { data } = await ask(LIST, { query: asked, signal });
      return { rows: rowsOf(data, "connections"), next: data.next, missing: data.missing };
    },
  });
  put(box, h("div", { class: "stack view" }, searchable && controls.size > 0 && form, list.element));
  await list.reload();
}

function controlOf(name, schema, value, isFirst) {
  const choices = schema.enum?.filter((one) => one !== null) ?? schema.oneOf?.flatMap((one) => one.enum ?? one.const ?? []);
  if (choices?.length) return select([["", "any"], ...choices.map((one) => [one, one])], value);
  return input({ type: "search", maxlength: 512, value, "data-search": isFirst });
}

export const connection = {
  key: "connections",
  title: "Connection",
  needs: [ONE, LIST],
  async render({ root, params, signal }) {
    const session = params.join("/");
    const box = h("div");
    const again = () => loaded(box, async () => (await ask(ONE, { path: { session }, signal })).data, show);
    const disconnect = offers(DISCONNECT) && button("Disconnect…", () => askToDisconnect(session, again), { class: "danger" });
    const trace = offers("GET /v1/trace") && link(["trace"], "Trace", { session }, { class: "button" });
    put(root, heading(session, { back: { to: ["connections"], text: "Connections" }, actions: [button("Look again", again, { class: "plain" }), trace, disconnect] }), box);
    await again();
  },
};

function askToDisconnect(session, again) {
  const reason = input({ maxlength: 120, placeholder: "maintenance" });
  confirm({
    title: "Disconnect",
    text: `The session ${session} is closed, and its client is told why. Whether it comes back is up to it: block its user to keep it out.`,
    fields: [field("Reason (optional)", reason, { hint: "The client and the audit log get it." })],
    name: session,
    action: "Disconnect",
    act: async () => {
      await ask(DISCONNECT, { path: { session }, query: only(DISCONNECT, { reason: reason.value }) });
      return () => {
        announce("Disconnected");
        again();
      };
    },
  });
}

function show(record) {
  const { traffic = {}, last_error, filters = [], topics = [], topics_total, ...rest } = record;
  const facts = factsOf(
    { ...rest, ...traffic, last_error: last_error && `${last_error.code}: ${last_error.text}` },
    {
      first: ["subject", "address", "transport", "node", "began", "token_id", "expires", "blocked", "waiting_bytes", "requests_in_flight"],
      skip: ["session"],
      show: { subject: subjectOf, address: code, blocked: (isBlocked) => (isBlocked ? badge("takes no more for now", "wait") : "no"), waiting_bytes: bytes, bytes_in: bytes, bytes_out: bytes, frames_in: count, frames_out: count },
    },
  );
  const none = (text) => h("p", { class: "hint" }, text);
  return [
    section("What it is", facts),
    section("Subscriptions", filters.length ? table("Subscriptions", FILTERED, filters) : none("It subscribes to nothing.")),
    section("Topics that it reads", topics.length ? table("Topics that it reads", READ, topics) : none("It reads no topic."), topics_total > topics.length && none(`The first ${count(topics.length)} of ${count(topics_total)}.`)),
  ];
}

const FILTERED = [
  { title: "Filter", header: true, wide: true, cell: (row) => code(row.filter) },
  { title: "Active", cell: (row) => (row.active === false ? badge("begins", "wait") : badge("active", "good")) },
];

const READ = [
  { title: "Topic", header: true, wide: true, cell: (row) => link(["topics", row.topic], row.topic) },
  { title: "Handed out up to", cell: (row) => position(row.position) },
  { title: "Newest", cell: (row) => position(row.head) },
  { title: "Lag", number: true, cell: (row) => count(row.lag) },
];
