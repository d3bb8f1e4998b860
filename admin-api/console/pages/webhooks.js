// Webhooks: who is told by HTTP, and what became of it.

import { ask } from "../api.js";
import { confirm, open } from "../dialog.js";
import { announce, h, link, put } from "../dom.js";
import { count, milliseconds, words } from "../format.js";
import { bodyForm } from "../form.js";
import { offers, only } from "../offer.js";
import { badge, button, code, factsOf, heading, loaded, section, value, whenBrief } from "../parts.js";
import { listing, rowsOf } from "../table.js";

const LIST = "GET /v1/webhooks";
const ONE = "GET /v1/webhooks/{name}";
const DELIVERIES = "GET /v1/webhooks/{name}/deliveries";
const REDELIVER = "POST /v1/webhooks/{name}/redeliver";

export const webhooks = {
  key: "webhooks",
  title: "Webhooks",
  needs: [LIST],
  async render({ root, signal }) {
    const list = listing({
      caption: "Webhooks",
      none: "No webhook is set up. They stand in the configuration, under webhooks.",
      columns: [
        { title: "Name", header: true, wide: true, cell: (row) => link(["webhooks", row.name], row.name, {}, { class: "name" }) },
        { title: "Address", wide: true, cell: (row) => code(row.url) },
        { title: "Topics", wide: true, cell: (row) => value(row.topics) },
        { title: "Dead letters", number: true, cell: (row) => (row.dead_letters ? link(["topics", row.dead_letter_topic], count(row.dead_letters), { from: "earliest" }) : count(row.dead_letters)) },
      ],
      load: async (after) => {
        const { data } = await ask(LIST, { query: only(LIST, { after }), signal });
        return { rows: rowsOf(data, "webhooks"), next: data.next, missing: data.missing };
      },
    });
    put(root, heading("Webhooks"), list.element);
    await list.reload();
  },
};

export const webhook = {
  key: "webhooks",
  title: "Webhook",
  needs: [LIST],
  async render({ root, params, signal }) {
    const name = params.join("/");
    const about = h("div");
    const deliveries = offers(DELIVERIES) && deliveriesOf(name, signal);
    const again = () => Promise.all([offers(ONE) && loaded(about, async () => (await ask(ONE, { path: { name }, signal })).data, (record) => factsOf(record, { skip: ["name"] })), deliveries && deliveries.reload()]);
    const redeliver = offers(REDELIVER) && button("Redeliver…", () => askToRedeliver(name, {}, again));
    put(root, heading(name, { back: { to: ["webhooks"], text: "Webhooks" }, actions: [button("Look again", again, { class: "plain" }), redeliver] }), about, deliveries && section("Deliveries", deliveries.element));
    await again();
  },
};

const isGood = (row) => row.status >= 200 && row.status < 300;

function deliveriesOf(name, signal) {
  const list = listing({
    caption: "Deliveries",
    none: "Nothing was delivered yet.",
    columns: [
      { title: "When", header: true, cell: (row) => whenBrief(row.time) },
      { title: "Outcome", cell: (row) => badge(words(row.outcome ?? "–"), isGood(row) ? "good" : "bad") },
      { title: "Topic", wide: true, cell: (row) => link(["topics", row.topic], row.topic, { from: row.position?.offset }) },
      { title: "Offset", number: true, cell: (row) => count(row.position?.offset) },
      { title: "Attempt", number: true, cell: (row) => (row.attempt === 0 ? "by hand" : count(row.attempt)) },
      { title: "Status", cell: (row) => value(row.status) },
      { title: "Took", number: true, cell: (row) => milliseconds(row.duration_ms) },
      { title: "Why", wide: true, cell: (row) => row.error || "–" },
      { title: "Actions", isQuiet: true, cell: (row) => offers(REDELIVER) && button("Redeliver…", () => askToRedeliver(name, row, list.again), { class: "small" }) },
    ],
    load: async (after) => {
      const { data } = await ask(DELIVERIES, { path: { name }, query: only(DELIVERIES, { after, limit: 50 }), signal });
      return { rows: rowsOf(data, "deliveries"), next: data.next, missing: data.missing };
    },
  });
  return list;
}

/** Fills in what is known of a delivery, as far as the request takes it. */
function askToRedeliver(name, row, done) {
  const form = bodyForm(REDELIVER, { preset: { topic: row.topic, offset: row.position?.offset } });
  confirm({
    title: `Redeliver to ${name}`,
    text: "The receiver gets these messages once more, with the same ids.",
    fields: form.fields,
    action: "Redeliver",
    kind: "primary",
    act: async () => {
      const { data } = await ask(REDELIVER, { path: { name }, body: form.read() });
      return async () => {
        await done();
        const failed = (data.deliveries ?? []).find((one) => !isGood(one));
        if (failed) open("Not redelivered", h("p", {}, `The receiver did not take offset ${failed.position?.offset}: ${failed.error ?? failed.status}.`));
        else announce(`Redelivered: ${count((data.deliveries ?? []).length)}`);
      };
    },
  });
}
