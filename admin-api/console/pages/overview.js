// How the cluster is: figures and lines that move, and each node with what it needs.

import { ask } from "../api.js";
import { chart } from "../chart.js";
import { h, link, put } from "../dom.js";
import { ago, brief, bytes, clock, count, milliseconds, rate } from "../format.js";
import { badge, button, code, facts, heading, isLeft, problemBox, section, when } from "../parts.js";
import { table } from "../table.js";

/** How often the nodes are asked: every 2 s, and not at all while nobody looks. */
const EVERY_MS = 2000;

const KINDS = { ok: "good", degraded: "wait", unavailable: "bad" };

export const overview = {
  key: "overview",
  title: "Overview",
  needs: ["GET /v1/nodes"],
  async render({ root, signal }) {
    const state = h("span", { class: "hint" });
    let isPaused = false;
    const pause = button("Pause", () => {
      isPaused = !isPaused;
      pause.textContent = isPaused ? "Resume" : "Pause";
      if (!isPaused) tick();
      else state.textContent = "Paused";
    }, { class: "plain" });
    const outcome = h("div");
    const tiles = h("div", { class: "tiles" });
    const charts = {
      connections: chart("Connections", count, brief),
      messages: chart("Messages per second", rate, brief),
      behind: chart("Readers behind", count, brief),
      latency: chart("Latency of the store", milliseconds),
    };
    const nodes = h("div");
    const details = h("div", { class: "node-list" });
    put(
      root,
      heading("Overview", { actions: [state, pause] }),
      outcome,
      tiles,
      h("section", { class: "charts", "aria-label": "Charts" }, Object.values(charts).map(({ element }) => element)),
      section("Nodes", nodes, details),
    );

    let before;
    async function look() {
      const { data } = await ask("GET /v1/nodes", { signal });
      const now = { at: performance.now(), nodes: new Map((data.nodes ?? []).map((node) => [node.name, node])) };
      const seen = measure(before, now);
      before = now;
      const total = sum(seen);
      const each = (pick) => Object.fromEntries(seen.map((one) => [one.node.name, pick(one)]));
      charts.connections.push(now.at, { ...each(({ node }) => node.connections), ...(seen.length > 1 ? { all: total.connections } : {}) });
      charts.messages.push(now.at, { in: total.messages_in, out: total.messages_out });
      charts.behind.push(now.at, each(({ node }) => node.readers_behind));
      charts.latency.push(now.at, each(({ node }) => node.store?.latency_ms));
      put(outcome, warnings(data.missing ?? [], seen));
      put(tiles, tilesOf(total, seen, data.missing ?? []));
      drawNodes(nodes, details, seen);
      state.textContent = `As of ${clock(new Date())}`;
    }

    let timer;
    let isAsking = false;
    async function tick() {
      clearTimeout(timer);
      if (signal.aborted || isPaused || document.hidden || isAsking) return;
      isAsking = true;
      try {
        await look();
      } catch (error) {
        if (isLeft(error)) return;
        put(outcome, problemBox(error));
        state.textContent = "No answer";
      } finally {
        isAsking = false;
        if (!signal.aborted) timer = setTimeout(tick, EVERY_MS);
      }
    }
    document.addEventListener("visibilitychange", tick, { signal });
    signal.addEventListener("abort", () => clearTimeout(timer));
    await tick();
  },
};

const COUNTERS = ["messages_in", "messages_out", "bytes_in", "bytes_out", "accepted", "turned_away", "messages_refused", "handshakes_refused", "store_errors"];

/** Each node with its rates. A counter that went back belongs to a process that started anew: there is no rate then. */
function measure(before, now) {
  return [...now.nodes.values()].map((node) => {
    const old = before?.nodes.get(node.name);
    const seconds = before ? (now.at - before.at) / 1000 : 0;
    const rates = {};
    for (const name of COUNTERS) {
      const [from, to] = [old?.counters?.[name], node.counters?.[name]];
      if (seconds > 0 && old.started === node.started && to >= from) rates[name] = (to - from) / seconds;
    }
    return { node, rates };
  });
}

function sum(seen) {
  const total = { connections: 0, readers_behind: 0 };
  for (const { node, rates } of seen) {
    total.connections += node.connections ?? 0;
    total.readers_behind += node.readers_behind ?? 0;
    for (const [name, value] of Object.entries(rates)) total[name] = (total[name] ?? 0) + value;
  }
  return total;
}

function tilesOf(total, seen, missing) {
  const well = seen.filter(({ node }) => isWell(node)).length;
  const tile = (name, value, note) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value), note && h("dd", { class: "hint" }, note));
  return h(
    "dl",
    {},
    tile("Nodes", `${well} of ${seen.length + missing.length}`, "healthy"),
    tile("Connections", count(total.connections)),
    tile("Messages in", rate(total.messages_in), total.bytes_in === undefined ? "" : `${bytes(total.bytes_in)}/s`),
    tile("Messages out", rate(total.messages_out), total.bytes_out === undefined ? "" : `${bytes(total.bytes_out)}/s`),
    tile("Readers behind", count(total.readers_behind)),
  );
}

const isWell = (node) => !node.draining && node.store?.status === "ok" && (!node.bus || node.bus.status === "ok");

function warnings(missing, seen) {
  const found = [];
  if (missing.length) found.push(`No answer from ${missing.join(", ")}: what these nodes hold is not in the figures below.`);
  for (const { node } of seen) {
    for (const [part, name] of [[node.store, "store"], [node.bus, "bus"]]) {
      if (part && part.status !== "ok") found.push(`${node.name}: the ${name} is ${part.status}${part.reason ? `, ${part.reason}` : ""}.`);
    }
    if (node.draining) found.push(`${node.name} is about to end and sends its clients away.`);
  }
  return found.length > 0 && h("div", { class: "notice wait", role: "alert" }, found.map((text) => h("p", {}, text)));
}

const health = (part) => (part ? h("span", {}, badge(part.status, KINDS[part.status]), part.latency_ms === undefined ? "" : ` ${milliseconds(part.latency_ms)}`) : "none");

const COLUMNS = [
  { title: "Node", header: true, cell: ({ node }) => h("span", {}, node.name, node.draining && [" ", badge("draining", "wait")]) },
  { title: "Connections", number: true, cell: ({ node }) => link(["connections"], count(node.connections), { node: node.name }) },
  { title: "In", number: true, cell: ({ rates }) => rate(rates.messages_in) },
  { title: "Out", number: true, cell: ({ rates }) => rate(rates.messages_out) },
  { title: "Behind", number: true, cell: ({ node }) => count(node.readers_behind) },
  { title: "Store", cell: ({ node }) => health(node.store) },
  { title: "Bus", cell: ({ node }) => health(node.bus) },
  { title: "Up", cell: ({ node }) => (node.started ? ago(node.started).replace(" ago", "") : "–") },
];

/** Draws anew what changes, and leaves open what somebody opened, with the focus where it was. */
function drawNodes(box, details, seen) {
  const focused = box.contains(document.activeElement) ? document.activeElement.getAttribute("href") : undefined;
  put(box, table("Nodes", COLUMNS, seen));
  if (focused) [...box.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused)?.focus({ preventScroll: true });
  const names = new Set(seen.map(({ node }) => node.name));
  for (const one of [...details.children]) if (!names.has(one.dataset.node)) one.remove();
  for (const { node, rates } of seen) {
    let one = [...details.children].find((element) => element.dataset.node === node.name);
    if (!one) {
      one = h("details", { "data-node": node.name }, h("summary", {}, `More of ${node.name}`), h("div"));
      details.append(one);
    }
    if (one.open || !one.lastElementChild.hasChildNodes()) put(one.lastElementChild, more(node, rates));
  }
}

function more(node, rates) {
  const counters = node.counters ?? {};
  const shown = Object.entries(counters).map(([name, value]) => {
    const text = name.startsWith("bytes") ? bytes(value) : count(value);
    const per = rates[name] === undefined ? "" : ` (${name.startsWith("bytes") ? `${bytes(rates[name])}/s` : rate(rates[name])})`;
    const title = name.replaceAll("_", " ");
    return [title.charAt(0).toUpperCase() + title.slice(1), text + per];
  });
  return facts([
    ["Address", code(node.address)],
    ["Version", node.version],
    ["Started", when(node.started)],
    node.connections_max !== undefined && ["Connections at most", count(node.connections_max)],
    node.queues !== undefined && ["Queues consumed", count(node.queues)],
    ...shown,
  ]);
}
