// Users: subjects, who of them is here, who is blocked, and what was revoked.

import { ask } from "../api.js";
import { confirm } from "../dialog.js";
import { address, announce, h, link, put } from "../dom.js";
import { count } from "../format.js";
import { bodyForm } from "../form.js";
import { offers, only } from "../offer.js";
import { badge, button, code, field, facts, heading, input, loaded, section, whenBrief } from "../parts.js";
import { listing, rowsOf } from "../table.js";
import { browseConnections } from "./connections.js";

const LIST = "GET /v1/users";
const ONE = "GET /v1/users/{subject}";
const DISCONNECT = "POST /v1/users/{subject}/disconnect";
const BLOCKS = "GET /v1/blocks";
const BLOCK = "PUT /v1/blocks/{subject}";
const BLOCKED = "GET /v1/blocks/{subject}";
const UNBLOCK = "DELETE /v1/blocks/{subject}";
const REVOCATIONS = "GET /v1/revocations";
const REVOKE = "POST /v1/revocations";
const FORGET = "DELETE /v1/revocations/{id}";

const toUser = (subject) => (subject ? (offers(LIST) || offers(ONE) || offers(BLOCK) ? link(["users", subject], subject, {}, { class: "name" }) : subject) : "anonymous");

export const users = {
  key: "users",
  title: "Users",
  needs: [LIST, BLOCKS, REVOCATIONS],
  async render({ root, query, signal }) {
    const subject = input({ type: "search", "data-search": true, maxlength: 255, required: true, placeholder: "ada" });
    const form = h("form", { class: "filters", role: "search" }, field("Go to a user", subject), h("button", { type: "submit", class: "primary" }, "Go"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      location.hash = address(["users", subject.value]);
    });
    const lists = [offers(LIST) && known(query, signal), offers(BLOCKS) && blocks(signal), offers(REVOCATIONS) && revocations(signal)].filter(Boolean);
    put(root, heading("Users"), form, lists.map(({ element }) => element));
    await Promise.all(lists.map(({ list }) => list.reload()));
  },
};

function known(query, signal) {
  const list = listing({
    caption: "Users who are connected",
    none: "No user is connected.",
    columns: [
      { title: "Subject", header: true, wide: true, cell: (row) => toUser(row.subject) },
      { title: "Connections", number: true, cell: (row) => count(row.connections) },
      { title: "Nodes", wide: true, cell: (row) => (row.nodes ?? []).join(", ") },
    ],
    load: page(LIST, "users", signal, Object.fromEntries(query)),
  });
  return { element: section("Connected", list.element), list };
}

const page = (operation, name, signal, query = {}) => async (after) => {
  const { data } = await ask(operation, { query: only(operation, { ...query, after, limit: 50 }), signal });
  return { rows: rowsOf(data, name), next: data.next, missing: data.missing };
};

function blocks(signal) {
  const list = listing({
    caption: "Blocked users",
    none: "Nobody is blocked.",
    columns: [
      { title: "Subject", header: true, wide: true, cell: (row) => toUser(row.subject) },
      { title: "Reason", wide: true, cell: (row) => row.reason || "–" },
      { title: "Blocked", cell: (row) => whenBrief(row.since) },
      { title: "By", cell: (row) => row.by || "–" },
      { title: "Until", cell: (row) => (row.until ? whenBrief(row.until) : "lifted by hand") },
      { title: "Actions", isQuiet: true, cell: (row) => offers(UNBLOCK) && button("Unblock…", () => unblock(row.subject, list.again), { class: "small", "aria-label": `Unblock ${row.subject}` }) },
    ],
    load: page(BLOCKS, "blocks", signal),
  });
  return { element: section("Blocked", list.element), list };
}

function revocations(signal) {
  const list = listing({
    caption: "Revocations",
    none: "No token is revoked.",
    columns: [
      { title: "Id", header: true, cell: (row) => code(row.id) },
      { title: "Subject", wide: true, cell: (row) => (row.subject ? toUser(row.subject) : "–") },
      { title: "Token", cell: (row) => code(row.token) },
      { title: "Issued before", cell: (row) => whenBrief(row.issued_before) },
      { title: "Reason", wide: true, cell: (row) => row.reason || "–" },
      { title: "Revoked", cell: (row) => whenBrief(row.since) },
      { title: "Actions", isQuiet: true, cell: (row) => offers(FORGET) && button("Take back…", () => forget(row.id, list.again), { class: "small", "aria-label": `Take back ${row.id}` }) },
    ],
    load: page(REVOCATIONS, "revocations", signal),
  });
  const add = offers(REVOKE) && h("div", { class: "buttons" }, button("Revoke a token…", () => revoke({}, list.reload)));
  return { element: section("Revoked tokens", list.element, add), list };
}

function unblock(subject, done) {
  confirm({
    title: `Unblock ${subject}`,
    text: "The user may connect again with a token that is valid.",
    action: "Unblock",
    kind: "primary",
    act: async () => {
      await ask(UNBLOCK, { path: { subject } });
      return () => (announce("Unblocked"), done());
    },
  });
}

function forget(id, done) {
  confirm({
    title: "Take a revocation back",
    text: "Tokens that it concerns are valid again, as far as they have not run out.",
    name: id,
    action: "Take back",
    act: async () => {
      await ask(FORGET, { path: { id } });
      return () => (announce("Taken back"), done());
    },
  });
}

/** Revokes by whatever the broker takes; `preset` fills in what is known. */
function revoke(preset, done) {
  const form = bodyForm(REVOKE, { preset });
  confirm({
    title: "Revoke",
    text: "Every connection that came with such a token is closed on every node, within a second, and none can return with it.",
    fields: form.fields,
    action: "Revoke",
    act: async () => {
      await ask(REVOKE, { body: form.read() });
      return () => (announce("Revoked"), done());
    },
  });
}

export const user = {
  key: "users",
  title: "User",
  needs: [LIST, ONE, BLOCKS],
  async render({ root, params, signal }) {
    const subject = params.join("/");
    const about = h("div");
    const standing = h("div");
    const here = h("div");
    const again = () => Promise.all([look(about, subject, signal), lookAtBlock(standing, subject, signal, again), lookAtConnections(here, subject, signal)]);
    const actions = [
      offers("GET /v1/trace") && link(["trace"], "Trace", { subject }, { class: "button" }),
      offers("GET /v1/closes") && link(["closes"], "Why did it close?", { subject }, { class: "button" }),
      offers(DISCONNECT) && button("Disconnect…", () => disconnect(subject, again)),
      offers(REVOKE) && button("Revoke tokens…", () => revoke({ subject, ...before() }, again)),
      offers(BLOCK) && button("Block…", () => block(subject, again), { class: "danger" }),
    ];
    put(root, heading(subject, { back: { to: ["users"], text: "Users" }, actions }), standing, about, offers("GET /v1/connections") && section("Connections", here));
    await again();
  },
};

/** All tokens that were issued up to now, in the zone of whoever looks. */
function before() {
  const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
  return { issued_before: now };
}

async function look(box, subject, signal) {
  if (!offers(ONE)) return;
  const load = async () => {
    try {
      return (await ask(ONE, { path: { subject }, signal })).data;
    } catch (error) {
      if (error.code === "not_found") return undefined;
      throw error;
    }
  };
  await loaded(box, load, (record) => (record?.connections ? facts([["Connections", count(record.connections)], ["On", record.nodes.map(({ node, connections }) => `${node} (${count(connections)})`).join(", ")], record.missing?.length > 0 && ["No answer from", record.missing.join(", ")]]) : h("p", { class: "lead" }, "This user is not connected.")));
}

async function lookAtBlock(box, subject, signal, again) {
  if (!offers(BLOCKED)) return;
  const { data } = await ask(BLOCKED, { path: { subject }, signal }).catch((error) => {
    if (error.code === "not_found") return {};
    throw error;
  });
  const why = data && [badge("blocked", "bad"), " ", data.reason ? `Blocked: ${data.reason}` : "This user is blocked and cannot connect."];
  put(box, data && h("div", { class: "notice wait" }, h("p", {}, why), offers(UNBLOCK) && button("Unblock…", () => unblock(subject, again), { class: "small" })));
}

async function lookAtConnections(box, subject, signal) {
  if (offers("GET /v1/connections")) await browseConnections({ box, fixed: { subject }, query: new URLSearchParams(), signal });
}

function disconnect(subject, done) {
  const form = bodyForm(DISCONNECT);
  const reason = only(DISCONNECT, { reason: "" }).reason === "" && input({ maxlength: 120 });
  confirm({
    title: "Disconnect",
    text: `Every connection of ${subject} is closed, on every node. Its clients may come back.`,
    fields: [form.fields, reason && field("Reason (optional)", reason)],
    name: subject,
    action: "Disconnect",
    act: async () => {
      const body = form.fields.length ? form.read() : undefined;
      await ask(DISCONNECT, { path: { subject }, body, query: reason ? { reason: reason.value } : {} });
      return () => (announce("Disconnected"), done());
    },
  });
}

function block(subject, done) {
  const form = bodyForm(BLOCK, { hide: ["subject"] });
  confirm({
    title: "Block",
    text: `Every connection of ${subject} is closed on every node, and none can return until the block is lifted.`,
    fields: form.fields,
    name: subject,
    action: "Block",
    act: async () => {
      await ask(BLOCK, { path: { subject }, body: form.read() });
      return () => (announce("Blocked"), done());
    },
  });
}
