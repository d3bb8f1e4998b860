// Topics: which there are, and how busy.

import { ask } from "../api.js";
import { address, h, link, put } from "../dom.js";
import { bytes, count, rate } from "../format.js";
import { only, offers, takes } from "../offer.js";
import { badge, button, field, heading, input, select, whenBrief } from "../parts.js";
import { listing, rowsOf } from "../table.js";
import { publishDialog } from "./publish.js";

const LIST = "GET /v1/topics";

export const COLUMNS = [
  { title: "Topic", header: true, wide: true, cell: (row) => link(["topics", row.topic ?? row.name], row.topic ?? row.name, {}, { class: "name" }) },
  { title: "Kind", cell: (row) => badge(row.kind ?? "–") },
  { title: "Messages", number: true, cell: (row) => count(row.messages) },
  { title: "Size", number: true, cell: (row) => bytes(row.bytes) },
  { title: "Head", number: true, cell: (row) => count(row.head?.offset ?? row.head) },
  { title: "Subscribers", number: true, cell: (row) => count(row.subscribers) },
  { title: "Rate", number: true, cell: (row) => rate(row.messages_per_second) },
  { title: "Published", cell: (row) => whenBrief(row.published_at) },
];

export const topics = {
  key: "topics",
  title: "Topics",
  needs: [LIST],
  async render({ root, query, signal }) {
    const by = query.get("filter") ? "filter" : "prefix";
    const text = input({ type: "search", "data-search": true, maxlength: 255, value: query.get(by) ?? "", placeholder: "chat/" });
    const kind = takes(LIST, "filter") && select([["prefix", "beginning with"], ["filter", "matching the filter"]], by);
    const form = h(
      "form",
      { class: "filters", role: "search" },
      kind && field("Topics", kind),
      field(kind ? "Text" : "Topics beginning with", text, { hint: kind ? "In a filter, + is one level and a last # the rest." : undefined }),
      h("button", { type: "submit", class: "primary" }, "Search"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      location.hash = address(["topics"], { [kind ? kind.value : "prefix"]: text.value });
    });
    const list = listing({
      caption: "Topics",
      columns: COLUMNS,
      none: query.size ? "No topic like that." : "There are no topics yet. The first message makes one.",
      load: async (after) => {
        const asked = only(LIST, { prefix: query.get("prefix"), filter: query.get("filter"), after, limit: 50 });
        const { data } = await ask(LIST, { query: asked, signal });
        return { rows: rowsOf(data, "topics"), next: data.next, missing: data.missing };
      },
    });
    const publish = offers("POST /v1/topics/{topic}/messages") && button("Publish…", () => publishDialog({ done: list.again }), { class: "primary" });
    put(root, heading("Topics", { actions: [publish] }), form, list.element);
    await list.reload();
  },
};
