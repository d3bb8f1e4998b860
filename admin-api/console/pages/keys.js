// Keys of administrators. A secret is shown once, when its key is made.

import { ask } from "../api.js";
import { confirm, open } from "../dialog.js";
import { announce, h, put } from "../dom.js";
import { bodyForm } from "../form.js";
import { offers, only } from "../offer.js";
import { badge, button, code, factsOf, field, heading, input, whenBrief } from "../parts.js";
import { listing, rowsOf } from "../table.js";

const LIST = "GET /v1/keys";
const MAKE = "PUT /v1/keys/{name}";
const REMOVE = "DELETE /v1/keys/{name}";

export const keys = {
  key: "keys",
  title: "Keys",
  needs: [LIST],
  async render({ root, signal }) {
    const list = listing({
      caption: "Keys",
      none: "There is no key yet.",
      columns: [
        { title: "Name", header: true, wide: true, cell: (row) => row.name },
        { title: "Role", cell: (row) => badge(row.role ?? "–") },
        { title: "Begins with", cell: (row) => code(row.begins) },
        { title: "Made", cell: (row) => whenBrief(row.made) },
        { title: "By", cell: (row) => row.by || "–" },
        { title: "Expires", cell: (row) => (row.expires ? whenBrief(row.expires) : "never") },
        { title: "Last used", cell: (row) => (row.used ? whenBrief(row.used) : "never") },
        { title: "Actions", isQuiet: true, cell: (row) => offers(REMOVE) && button("Delete…", () => remove(row.name, list.again), { class: "small danger", "aria-label": `Delete ${row.name}` }) },
      ],
      load: async (after) => {
        const { data } = await ask(LIST, { query: only(LIST, { after }), signal });
        return { rows: rowsOf(data, "keys"), next: data.next };
      },
    });
    const make = offers(MAKE) && button("Make a key…", () => makeOne(list.reload), { class: "primary" });
    put(root, heading("Keys", { actions: [make], note: "Whoever has a key administers the cluster as far as its role goes. Each stands in the audit log by its name." }), list.element);
    await list.reload();
  },
};

function makeOne(done) {
  const name = input({ required: true, maxlength: 255, placeholder: "deploy" });
  const form = bodyForm(MAKE, { hide: ["name"] });
  confirm({
    title: "Make a key",
    fields: [field("Name", name), form.fields],
    action: "Make it",
    kind: "primary",
    act: async () => {
      const { data } = await ask(MAKE, { path: { name: name.value }, body: form.read(), headers: { "if-none-match": "*" } });
      return () => {
        done();
        open(`Key ${name.value}`, h("div", { class: "stack" }, secret("Its secret", data.secret), factsOf(data.key ?? {}, { skip: ["used"] })));
      };
    },
  });
}

function remove(name, done) {
  confirm({
    title: "Delete a key",
    text: `Whoever uses ${name} is refused from then on, on every node.`,
    name,
    action: "Delete",
    act: async () => {
      await ask(REMOVE, { path: { name } });
      return () => (announce("Deleted"), done());
    },
  });
}

/** A secret that is shown once, with a way to copy it. */
export function secret(title, text) {
  const copied = h("span", { class: "hint", role: "status" });
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copied.textContent = "Copied.";
    } catch {
      copied.textContent = "The browser does not allow it: mark it and copy it by hand.";
    }
  }, { class: "small" });
  return h("div", { class: "notice wait" }, h("p", {}, h("strong", {}, `${title}. It is shown only now.`)), h("p", { class: "break" }, code(text)), h("p", {}, copy, " ", copied));
}
