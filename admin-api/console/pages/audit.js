// The audit log: who changed what, when, from where, and what it was before.

import { ask } from "../api.js";
import { open } from "../dialog.js";
import { address, h, put } from "../dom.js";
import { compare } from "../editor.js";
import { queryForm } from "../form.js";
import { only } from "../offer.js";
import { badge, block, button, code, heading, when, whenBrief } from "../parts.js";
import { listing, rowsOf } from "../table.js";

const LIST = "GET /v1/audit";

/** Members that have a column of their own. */
const SHOWN = ["at", "time", "actor", "role", "address", "action", "target", "reason", "failed", "position", "offset", "id"];

export const audit = {
  key: "audit",
  title: "Audit",
  needs: [LIST],
  async render({ root, query, signal }) {
    const asked = Object.fromEntries(query);
    const form = filters(LIST, asked, ["audit"]);
    const list = listing({
      caption: "Changes, the newest first",
      none: query.size ? "No change like that." : "Nothing was changed yet.",
      columns: [
        { title: "When", header: true, cell: (row) => whenBrief(row.at ?? row.time) },
        { title: "Who", cell: (row) => [row.actor ?? "–", " ", row.role && badge(row.role)] },
        { title: "What", cell: (row) => [code(row.action), row.failed && [" ", badge(`failed: ${row.failed}`, "bad")]] },
        { title: "To", wide: true, cell: (row) => row.target || "–" },
        { title: "Reason", wide: true, cell: (row) => row.reason || "–" },
        { title: "From", cell: (row) => code(row.address) },
        { title: "Details", cell: details },
      ],
      load: async (after) => {
        const { data } = await ask(LIST, { query: only(LIST, { ...asked, after, limit: 50 }), signal });
        return { rows: rowsOf(data, "records"), next: data.next, missing: data.missing };
      },
    });
    put(root, heading("Audit"), form, list.element);
    await list.reload();
  },
};

function details(row) {
  const rest = Object.fromEntries(Object.entries(row).filter(([name, value]) => !SHOWN.includes(name) && value !== null));
  if (Object.keys(rest).length === 0) return "–";
  const show = () => open(`${row.action} by ${row.actor}`, h("div", { class: "stack" }, change(rest.detail), block(rest, "Details")), { wide: true });
  return button("Details", show, { class: "small", "aria-label": `Details of ${row.action}, ${row.target}` });
}

/** What was before and what is after, as lines that went and came. */
function change(detail) {
  const { before, after } = detail ?? {};
  if (before === undefined && after === undefined) return undefined;
  const text = (any) => (any === undefined ? "" : JSON.stringify(any, null, 2));
  return h("div", { class: "diff-box" }, compare(text(before), text(after)));
}

/** A form of the filters that a list takes; it leads to the address with them. */
export function filters(operation, asked, to) {
  const local = (value) => (value ? new Date(new Date(value).getTime() - new Date(value).getTimezoneOffset() * 60_000).toISOString().slice(0, 19) : undefined);
  const form = queryForm(operation, { hide: ["after", "limit"], preset: { ...asked, since: local(asked.since), until: local(asked.until) } });
  if (form.fields.length === 0) return undefined;
  form.fields[0].querySelector("input, select")?.setAttribute("data-search", "");
  const element = h("form", { class: "filters", role: "search" }, form.fields, h("button", { type: "submit", class: "primary" }, "Search"));
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = address(to, form.read());
  });
  return element;
}

