// Policies: what holds for which topics, changed while every node runs.

import { ask } from "../api.js";
import { h, link, put } from "../dom.js";
import { count } from "../format.js";
import { editor } from "../editor.js";
import { body, offers } from "../offer.js";
import { code, during, facts, field, heading, input, notice, section, value } from "../parts.js";
import { rowsOf, table } from "../table.js";

const READ = "GET /v1/policies";
const WRITE = "PUT /v1/policies";
const PREVIEW = "POST /v1/policies/preview";

const OPERATIONS = {
  read: READ,
  write: WRITE,
  validate: "POST /v1/policies/validate",
  versions: "GET /v1/policies/versions",
  version: "GET /v1/policies/versions/{version}",
  rollback: "POST /v1/policies/rollback",
};

export const policies = {
  key: "policies",
  title: "Policies",
  needs: [READ],
  async render({ root, signal }) {
    const edit = editor({ title: "Policies", operations: OPERATIONS, unwrap: (data) => documentOf(data, body(WRITE)), signal });
    put(root, heading("Policies", { note: "An ordered list: the first policy whose filter matches a topic holds for it. What is saved here holds on every node within a second, without a restart." }), edit.element, preview(signal), edit.versions);
    await edit.load();
  },
};

/** Of what was read, what may be written: the members that the request takes. */
export function documentOf(data, schema) {
  if (schema?.type === "array") return rowsOf(data, "policies");
  const names = Object.keys(schema?.properties ?? {});
  if (names.length === 0) return data;
  return Object.fromEntries(names.filter((name) => data[name] !== undefined).map((name) => [name, data[name]]));
}

/** What a filter would hit. */
function preview(signal) {
  if (!offers(PREVIEW)) return undefined;
  const outcome = h("div", { "aria-live": "polite" });
  const filter = input({ required: true, "data-search": true, maxlength: 255, placeholder: "chat/#" });
  const submit = h("button", { type: "submit" }, "Preview");
  const form = h("form", { class: "filters" }, field("What would this filter hit?", filter, { hint: "+ is one level, a last # the rest." }), submit);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await during(submit, outcome, async () => {
      const { data } = await ask(PREVIEW, { body: { filter: filter.value }, signal });
      put(outcome, hits(data));
    });
  });
  return section("Preview", form, outcome);
}

function hits(data) {
  const columns = [
    { title: "Topic", header: true, wide: true, cell: (row) => link(["topics", row.topic], row.topic, {}, { class: "name" }) },
    { title: "Messages", number: true, cell: (row) => count(row.messages) },
    { title: "Holds now", wide: true, cell: (row) => code(row.policy ?? "the defaults") },
    { title: "Keeps history", cell: (row) => value(row.durable) },
  ];
  return [
    data.complete === false && notice("Not every topic was looked at: there may be more.", "wait"),
    (data.missing ?? []).length > 0 && notice(`Subscribers on ${data.missing.join(", ")} are not counted: no answer.`, "wait"),
    facts([["Topics with history", count(data.topics)], ["Messages", count(data.messages)], ["Subscribers", count(data.subscribers)]]),
    (data.first ?? []).length > 0 && table(`The first topics under ${data.filter}`, columns, data.first, { captionHidden: false }),
  ];
}
