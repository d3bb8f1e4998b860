// Why did it close? The last sessions that ended, with the reason and what happened before.

import { ask } from "../api.js";
import { open } from "../dialog.js";
import { h, put } from "../dom.js";
import { bytes, count, milliseconds, span } from "../format.js";
import { only } from "../offer.js";
import { badge, button, code, facts, heading, whenBrief } from "../parts.js";
import { listing, rowsOf } from "../table.js";
import { filters } from "./audit.js";
import { subjectOf } from "./connections.js";

const LIST = "GET /v1/closes";

export const closes = {
  key: "closes",
  title: "Why did it close?",
  needs: [LIST],
  async render({ root, query, signal }) {
    const asked = Object.fromEntries(query);
    const list = listing({
      caption: "Sessions that ended, the newest first",
      none: query.size ? "No session like that ended lately." : "No session ended lately.",
      columns: [
        { title: "Ended", header: true, cell: (row) => whenBrief(row.ended) },
        { title: "Session", cell: (row) => code(row.session) },
        { title: "Subject", wide: true, cell: (row) => subjectOf(row.subject) },
        { title: "Why", wide: true, cell: (row) => [badge(row.reason), " ", h("span", { class: "quiet" }, String(row.code ?? "")), row.text && h("div", {}, row.text)] },
        { title: "Transport", cell: (row) => row.transport },
        { title: "Node", cell: (row) => row.node },
        { title: "Before", cell: before },
      ],
      load: async (after) => {
        const { data } = await ask(LIST, { query: only(LIST, { ...asked, after, limit: 50 }), signal });
        return { rows: rowsOf(data, "closes"), next: data.next, missing: data.missing };
      },
    });
    put(root, heading("Why did it close?"), filters(LIST, asked, ["closes"]), list.element);
    await list.reload();
  },
};

/** What happened before: how long it was, what waited, what its client was told. */
function before(row) {
  const { frames_in, bytes_in, frames_out, bytes_out } = row.traffic ?? {};
  const inside = facts([
    ["Lasted", row.began && span(new Date(row.ended) - new Date(row.began))],
    ["Address", code(row.address)],
    ["Subscriptions", count(row.subscriptions)],
    ["Waited for its socket", bytes(row.waiting_bytes)],
    ["Socket took nothing for", milliseconds(row.stuck_ms)],
    ["Client was silent for", milliseconds(row.silent_ms)],
    ["Came", `${count(frames_in)} frames, ${bytes(bytes_in)}`],
    ["Went", `${count(frames_out)} frames, ${bytes(bytes_out)}`],
    row.last_error && ["Last error", `${row.last_error.code}: ${row.last_error.text}`],
  ]);
  return button("Details", () => open(`${row.reason}: ${row.session}`, inside, { wide: true }), { class: "small", "aria-label": `Details of the end of ${row.session}` });
}
