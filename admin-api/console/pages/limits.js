// Limits: how much anybody may take of a node, changed while it runs.

import { h, put } from "../dom.js";
import { editor } from "../editor.js";
import { body } from "../offer.js";
import { badge, code, heading, section } from "../parts.js";
import { table } from "../table.js";
import { documentOf } from "./policies.js";

const WRITE = "PUT /v1/limits";

export const limits = {
  key: "limits",
  title: "Limits",
  needs: ["GET /v1/limits"],
  async render({ root, signal }) {
    const operations = {
      read: "GET /v1/limits",
      write: WRITE,
      validate: "POST /v1/limits/validate",
      versions: "GET /v1/limits/versions",
      version: "GET /v1/limits/versions/{version}",
      rollback: "POST /v1/limits/rollback",
    };
    const effective = h("div");
    const edit = editor({ title: "Limits", rows: 10, operations, unwrap: (data) => (put(effective, holding(data)), documentOf(data, body(WRITE))), signal });
    put(root, heading("Limits", { note: "What is over a limit is refused in the protocol's own words, with when to try again, and counted by reason." }), edit.element, edit.versions, effective);
    await edit.load();
  },
};

/** What holds on the node that answered, and which of it can be changed while it runs. */
function holding(data) {
  if (!data.effective) return undefined;
  const live = new Set(data.live ?? []);
  const columns = [
    { title: "Limit", header: true, cell: ([name]) => name },
    { title: "Holds", cell: ([, one]) => code(typeof one === "string" ? one.replaceAll('"', "") : one) },
    { title: "Set here", cell: ([name]) => (name in (data.limits ?? {}) ? "yes" : "–") },
    { title: "Changes", cell: ([name]) => (live.has(name) ? badge("while nodes run", "good") : "at a node's start") },
  ];
  return section("What holds", table("Limits that hold on the node that answered", columns, Object.entries(data.effective)));
}
