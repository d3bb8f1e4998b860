// The pieces that pages are made of.

import { Problem } from "./api.js";
import { announce, fresh, h, link, put } from "./dom.js";
import { NONE, ago, isTime, shortTime, time, words } from "./format.js";

export function button(text, onClick, props = {}) {
  return h("button", { type: "button", ...props, on: { click: onClick } }, text);
}

/** A label above a control, with a hint below. The control must be one element. */
export function field(label, control, { hint, wide } = {}) {
  control.id ||= fresh("field");
  const about = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: wide ? "field wide" : "field" }, h("label", { for: control.id }, label), control, about);
}

export function input(props = {}) {
  return h("input", { type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false", ...props });
}

/** `choices` are `[value, text]`. */
export function select(choices, value, props = {}) {
  const control = h("select", props, choices.map(([value, text]) => h("option", { value }, text)));
  if (value !== undefined) control.value = value;
  return control;
}

/** A part of a page with its heading. Returns the section; put what follows into it. */
export function section(title, ...children) {
  const id = fresh("section");
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), children);
}

/** The heading of a page with what can be done about the whole of it. */
export function heading(title, { back, actions = [], note } = {}) {
  return h(
    "div",
    { class: "heading" },
    back && h("p", { class: "back" }, link(back.to, [h("span", { "aria-hidden": "true" }, "← "), back.text])),
    h("div", { class: "heading-line" }, h("h1", { tabindex: "-1" }, title), h("div", { class: "actions" }, actions)),
    note && h("p", { class: "lead" }, note),
  );
}

/** A short word that says how something is. `kind`: good, wait, bad or nothing. */
export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

export const empty = (text) => h("p", { class: "empty" }, text);

/** A time, with how long ago in its title. */
export function when(value) {
  const text = time(value);
  return text === NONE ? NONE : h("time", { datetime: new Date(value).toISOString(), title: ago(value) }, text);
}

/** The same for tables: of today, only the clock's time. The whole of it is in its title. */
export function whenBrief(value) {
  if (time(value) === NONE) return NONE;
  return h("time", { datetime: new Date(value).toISOString(), title: `${time(value)}, ${ago(value)}` }, shortTime(value));
}

/** Names and values. `pairs` are `[name, value]`; a value is text, a number or an element, and nothing is a dash. */
export function facts(pairs) {
  const rows = pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value ?? NONE)));
  return h("dl", { class: "facts" }, rows);
}

/** The facts of whatever the API says: known names first, then all others. */
export function factsOf(record, { first = [], skip = [], show = {} } = {}) {
  const names = [...first.filter((name) => name in record), ...Object.keys(record).filter((name) => !first.includes(name))];
  const shown = names.filter((name) => !skip.includes(name));
  return facts(shown.map((name) => [words(name), show[name] ? show[name](record[name]) : value(record[name])]));
}

/** Any value as an element or text. */
export function value(any) {
  if (any === null || any === undefined || any === "") return NONE;
  if (typeof any === "boolean") return any ? "yes" : "no";
  if (isTime(any)) return when(any);
  if (Array.isArray(any)) {
    if (any.length === 0) return NONE;
    if (any.every((one) => typeof one === "string" && one.length < 24) && any.length < 5) return any.join(", ");
    if (any.every((one) => typeof one !== "object")) return h("ul", { class: "plain-list" }, any.slice(0, 1000).map((one) => h("li", {}, code(one))));
    return block(any);
  }
  if (isPosition(any)) return position(any);
  if (typeof any === "object") {
    if (JSON.isRawJSON?.(any)) return JSON.stringify(any);
    return block(any);
  }
  return String(any);
}

const isPosition = (any) => typeof any === "object" && Object.keys(any).length === 2 && "epoch" in any && "offset" in any;

export const position = (any) => (any ? h("span", {}, String(any.offset), " ", h("span", { class: "quiet" }, `of epoch ${any.epoch}`)) : NONE);

export const code = (text) => h("code", {}, text === undefined || text === null || text === "" ? NONE : String(text));

/** JSON, or a text, in its own box which scrolls by itself. */
export function block(any, label = "Content") {
  const text = typeof any === "string" ? any : JSON.stringify(any, null, 2);
  return h("pre", { tabindex: "0", role: "region", "aria-label": label }, text);
}

/** Why something was not done, and what to do. */
export function problemBox(error) {
  const detail = sentence(error.message || String(error));
  const places = error instanceof Problem ? error.errors.filter(({ at, detail }) => `${at}: ${detail}` !== error.message) : [];
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("p", {}, h("strong", {}, detail)),
    places.length > 0 && h("ul", {}, places.slice(0, 50).map(({ at, detail }) => h("li", {}, code(at), " ", detail))),
    error.advice && h("p", {}, error.advice),
  );
}

/** With a capital and a full stop. */
export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

export function notice(text, kind = "good") {
  announce(text);
  return h("div", { class: `notice ${kind}` }, h("p", {}, text));
}

/** Whether an error only says that its page was left. */
export const isLeft = (error) => error?.name === "AbortError";

/** Does something at a press: the button waits, and what went wrong stands in `outcome`. */
export async function during(pressed, outcome, act) {
  if (pressed.getAttribute("aria-busy") === "true") return undefined;
  pressed.setAttribute("aria-busy", "true");
  put(outcome);
  try {
    return await act();
  } catch (error) {
    if (!isLeft(error)) put(outcome, problemBox(error));
    return undefined;
  } finally {
    pressed.removeAttribute("aria-busy");
  }
}

/** Loads something into a box: a line while it lasts, then what `show` makes of it, or why not and a button to try again. */
export async function loaded(box, load, show) {
  put(box, h("p", { class: "loading" }, "Loading…"));
  try {
    put(box, await show(await load()));
  } catch (error) {
    if (isLeft(error)) return;
    put(box, problemBox(error), button("Try again", () => loaded(box, load, show)));
  }
}

/** Tabs as links: the address says which is open, so that going back and sharing work. */
export function tabs(label, items, current) {
  const item = ({ key, text, to, query }) => h("li", {}, link(to, text, query, key === current ? { "aria-current": "page" } : {}));
  return h("nav", { class: "tabs", "aria-label": label }, h("ul", {}, items.map(item)));
}

/** Saves bytes as a file of whoever looks at the page. */
export function save(name, parts, type = "application/octet-stream") {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name.replaceAll(/[^\w.-]+/g, "_").slice(0, 120);
  anchor.click();
  // The download has its own hold on it once it has begun.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
