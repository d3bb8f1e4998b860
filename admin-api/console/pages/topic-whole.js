// What is done to the whole of a topic: taking it out, bringing it in, and removing what is in it.

import { ask, credential, fill, request } from "../api.js";
import { confirm } from "../dialog.js";
import { announce, h, put } from "../dom.js";
import { bytes, count } from "../format.js";
import { bodyForm } from "../form.js";
import { bodyTypes, offers } from "../offer.js";
import { button, during, field, notice, save, section } from "../parts.js";

const EXPORT = "GET /v1/topics/{topic}/export";
const IMPORT = "POST /v1/topics/{topic}/import";
const PURGE = "POST /v1/topics/{topic}/purge";
const DELETE = "DELETE /v1/topics/{topic}";

/** Bytes of an export that are held in the page where the browser cannot write a file bit by bit: 256 MiB. */
const HELD_BYTES_MAX = 256 << 20;

export function exportPanel({ name, signal }) {
  if (!offers(EXPORT)) return undefined;
  const text = h("p", {}, "Every message as a line of JSON (NDJSON), from the first that is kept to the newest.");
  if (!credential.get()) {
    // Without a token, the browser downloads by itself, whatever the size.
    const anchor = h("a", { class: "button primary", download: `${name.replaceAll(/[^\w.-]+/g, "_")}.ndjson` }, "Download");
    anchor.setAttribute("href", fill(EXPORT.split(" ")[1], { topic: name }).slice(1));
    return section("Export", text, h("div", { class: "buttons" }, anchor));
  }
  const outcome = h("div", { "aria-live": "polite" });
  const start = button("Download", () => during(start, outcome, () => download(name, signal, outcome)), { class: "primary" });
  return section("Export", text, outcome, h("div", { class: "buttons" }, start));
}

/** A link cannot carry a token and must not, so the page fetches it: into a file where the browser can write one, else into memory. */
async function download(name, signal, outcome) {
  const file = `${name.replaceAll(/[^\w.-]+/g, "_")}.ndjson`;
  const handle = window.showSaveFilePicker && (await window.showSaveFilePicker({ suggestedName: file }).catch(() => undefined));
  if (window.showSaveFilePicker && !handle) return;
  const response = await request(EXPORT, { path: { topic: name }, signal });
  const writer = await handle?.createWritable();
  const parts = [];
  let n_bytes = 0;
  const progress = h("p", { class: "hint" });
  put(outcome, progress);
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    n_bytes += value.length;
    progress.textContent = bytes(n_bytes);
    if (writer) await writer.write(value);
    else parts.push(value);
    if (!writer && n_bytes > HELD_BYTES_MAX) {
      await reader.cancel();
      throw new Error(`the export is larger than ${bytes(HELD_BYTES_MAX)}, more than this browser can hold: use “bongsu topics export”`);
    }
  }
  await writer?.close();
  if (!writer) save(file, parts, "application/x-ndjson");
  put(outcome, notice(`Exported ${bytes(n_bytes)}.`));
}

export function importPanel({ name, signal, again }) {
  if (!offers(IMPORT)) return undefined;
  const outcome = h("div", { "aria-live": "polite" });
  const file = h("input", { type: "file", accept: ".ndjson,.jsonl,application/x-ndjson", required: true });
  const submit = h("button", { type: "submit", class: "primary" }, "Import");
  const form = h("form", { class: "stack" }, h("p", {}, "Publishes each line of a file that was exported, in its order, as a new message of this topic."), field("File", file), outcome, h("div", { class: "buttons" }, submit));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await during(submit, outcome, async () => {
      const type = bodyTypes(IMPORT)[0] ?? "application/x-ndjson";
      const response = await request(IMPORT, { path: { topic: name }, text: file.files[0], type, signal });
      const last = await progressOf(response, outcome);
      if (!last?.done) throw new Error("the answer ended early: look at what is stored before you import again");
      put(outcome, notice(`Imported ${count(last.stored)} messages; ${count(last.duplicates)} were there already.`));
      again?.();
    });
  });
  return section("Import", form);
}

/** Shows each line of progress, and returns the last. */
async function progressOf(response, outcome) {
  const progress = h("p", { class: "hint" });
  put(outcome, progress);
  let last;
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop().slice(0, 65_536);
    for (const line of lines.filter(Boolean)) {
      last = JSON.parse(line);
      if (last.failed) throw new Error(`line ${last.failed.line}: ${last.failed.detail}. What is in the lines before it is stored`);
      progress.textContent = `${count(last.lines)} lines, ${count(last.stored)} stored`;
    }
    if (done) return last;
  }
}

export function purgePanel({ name, again }) {
  if (!offers(PURGE)) return undefined;
  const purge = () => {
    const form = bodyForm(PURGE);
    confirm({
      title: "Purge this topic",
      text: `The older messages of ${name} are destroyed on every node. Whoever reads them now is told that they are lost. This cannot be undone.`,
      fields: form.fields,
      name,
      action: "Purge",
      act: async () => {
        await ask(PURGE, { path: { topic: name }, body: form.read() });
        return () => {
          announce("Purged");
          again?.();
        };
      },
    });
  };
  return section("Purge", h("p", {}, "Removes messages up to a place in the log. Offsets go on where they were."), h("div", { class: "buttons" }, button("Purge…", purge, { class: "danger" })));
}

export function deletePanel({ name }) {
  if (!offers(DELETE)) return undefined;
  const remove = () =>
    confirm({
      title: "Delete this topic",
      text: `${name} and every message of it are destroyed on every node. Whoever reads it is told so. This cannot be undone.`,
      name,
      action: "Delete",
      act: async () => {
        await ask(DELETE, { path: { topic: name } });
        return () => (location.hash = "#/topics");
      },
    });
  return section("Delete", h("p", {}, "Removes the log with all that is in it. A later publish makes a new one, of a new epoch."), h("div", { class: "buttons" }, button("Delete…", remove, { class: "danger" })));
}
