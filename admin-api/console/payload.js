// What is in a message: as JSON, as text or as bytes. It is hostile until shown otherwise, so it is only ever a text node.

import { h } from "./dom.js";
import { bytes as size } from "./format.js";
import { button, save } from "./parts.js";

/** Characters of a payload that are shown: 64 Ki. The rest can be downloaded. */
const SHOWN_CHARS = 65_536;

/** Bytes that are shown in hexadecimal: 4 KiB. */
const SHOWN_BYTES = 4096;

const encoder = new TextEncoder();

/** `{ form, value, bytes }` of a message: `form` is `json`, `text` or `bytes`. */
export function payloadOf(message) {
  const data = "payload" in message && typeof message.payload === "object" && message.payload !== null ? { ...message, ...message.payload } : message;
  for (const name of ["data", "json"]) {
    if (data[name] !== undefined) return { form: "json", value: data[name], bytes: encoder.encode(JSON.stringify(data[name])) };
  }
  if (typeof data.text === "string") return { form: "text", value: data.text, bytes: encoder.encode(data.text) };
  for (const name of ["base64", "bytes", "payload"]) {
    if (typeof data[name] === "string") return { form: "bytes", bytes: decode(data[name]) };
  }
  return undefined;
}

function decode(base64) {
  try {
    return Uint8Array.from(atob(base64.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  } catch {
    return encoder.encode(base64);
  }
}

/** One line of it, for lists. */
export function preview(message, chars = 160) {
  const payload = payloadOf(message);
  if (!payload) return "";
  if (payload.form === "bytes") {
    const hex = [...payload.bytes.slice(0, 24)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return payload.bytes.length > 24 ? `${hex} …` : hex;
  }
  const text = payload.form === "json" ? JSON.stringify(payload.value) : payload.value;
  return text.length > chars ? `${text.slice(0, chars)}…` : text;
}

/** The bytes with their places and what they are as ASCII. */
export function hex(bytes) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, SHOWN_BYTES); at += 16) {
    const row = [...bytes.slice(at, at + 16)];
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const ascii = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(47)}  ${ascii}`);
  }
  return lines.join("\n");
}

/** The payload with a choice of how it is shown, cut where it is large, and a way to download all of it. */
export function payloadView(message, name) {
  const payload = payloadOf(message);
  if (!payload) return h("p", { class: "hint" }, "This message's payload is not shown here.");
  const shown = h("pre", { tabindex: "0", role: "region", "aria-label": "Payload" });
  const note = h("p", { class: "hint" });
  const text = () => new TextDecoder().decode(payload.bytes);
  const forms = {
    json: () => JSON.stringify(payload.form === "json" ? payload.value : JSON.parse(text()), null, 2),
    text,
    hex: () => hex(payload.bytes),
  };
  const draw = (form) => {
    let content;
    try {
      content = forms[form]();
    } catch {
      content = "This is no JSON.";
    }
    const isCut = form === "hex" ? payload.bytes.length > SHOWN_BYTES : content.length > SHOWN_CHARS;
    shown.textContent = content.slice(0, SHOWN_CHARS);
    note.textContent = `${size(payload.bytes.length)}${isCut ? ", of which the beginning is shown" : ""}`;
    for (const choice of choices.querySelectorAll("button")) choice.setAttribute("aria-pressed", String(choice.dataset.form === form));
  };
  const choice = ([form, title]) => button(title, () => draw(form), { "data-form": form, class: "small", "aria-pressed": "false" });
  const choices = h("div", { class: "segments", role: "group", "aria-label": "Show as" }, [["json", "JSON"], ["text", "Text"], ["hex", "Hex"]].map(choice));
  const download = button("Download", () => save(name, [payload.bytes], message.content_type ?? message.type), { class: "small plain" });
  const element = h("div", { class: "payload" }, h("div", { class: "payload-bar" }, choices, note, download), shown);
  draw({ json: "json", text: "text", bytes: "hex" }[payload.form]);
  return element;
}

