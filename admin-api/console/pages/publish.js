// Publishing a message by hand.

import { ask, parse } from "../api.js";
import { open } from "../dialog.js";
import { h, put } from "../dom.js";
import { body, offers } from "../offer.js";
import { badge, during, facts, field, input, notice, position, select } from "../parts.js";

const PUBLISH = "POST /v1/topics/{topic}/messages";

const FORMS = [["text", "Text"], ["data", "JSON"], ["bytes", "Bytes, in base64"]];

/** The form. `topic` is fixed where it is given; `done` is called after each message that was published. */
export function publishForm({ topic, done }) {
  const outcome = h("div", { "aria-live": "polite" });
  const known = body(PUBLISH)?.properties ?? {};
  const name = input({ required: true, maxlength: 255, placeholder: "chat/room/42" });
  const forms = FORMS.filter(([form]) => form in known || Object.keys(known).length === 0);
  const form = select(forms.length ? forms : FORMS, "text");
  const payload = h("textarea", { rows: 6, class: "code", spellcheck: "false" });
  const type = input({ maxlength: 255, placeholder: "by its form" });
  const id = input({ maxlength: 255, placeholder: "none" });
  const headers = h("textarea", { rows: 2, class: "code", spellcheck: "false", placeholder: "name: value, one on each line" });
  const submit = h("button", { type: "submit", class: "primary" }, "Publish");
  const element = h(
    "form",
    { class: "stack" },
    !topic && field("Topic", name),
    h("div", { class: "row" }, field("Payload is", form), field("Content type (optional)", type), field("Idempotency key (optional)", id, { hint: "The same one again is no second message." })),
    field("Payload", payload, { wide: true }),
    "headers" in known && field("Headers (optional)", headers, { wide: true }),
    outcome,
    h("div", { class: "buttons" }, submit),
  );
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    await during(submit, outcome, async () => {
      const message = { [form.value]: form.value === "data" ? jsonOf(payload.value) : payload.value };
      if (type.value) message["content_type" in known || !("type" in known) ? "content_type" : "type"] = type.value;
      if (headers.value.trim()) message.headers = headersOf(headers.value, known.headers);
      const { data } = await ask(PUBLISH, { path: { topic: topic ?? name.value }, body: message, headers: id.value ? { "idempotency-key": id.value } : {} });
      const at = data.position ?? data;
      put(outcome, notice(data.duplicate ? "It was there already: nothing was published." : "Published."), facts([at?.offset !== undefined && ["Position", position(at)], data.duplicate && ["Duplicate", badge("yes")]]));
      done?.(data);
    });
  });
  return element;
}

function jsonOf(text) {
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`the payload is no JSON: ${error.message}`);
  }
}

function headersOf(text, schema) {
  const pairs = text.split("\n").filter((line) => line.trim()).map((line) => {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`“${line.trim()}” is no header: it takes “name: value”`);
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
  return schema?.type === "array" ? pairs.map(([name, value]) => ({ name, value })) : Object.fromEntries(pairs);
}

export function publishDialog({ topic, done }) {
  if (offers(PUBLISH)) open(topic ? `Publish to ${topic}` : "Publish a message", publishForm({ topic, done }), { wide: true });
}

