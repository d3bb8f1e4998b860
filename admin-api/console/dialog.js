// Dialogs: native ones, so that Esc closes them, nothing behind them can be reached, and the focus returns to where it was.

import { fresh, h, put } from "./dom.js";
import { during, field, input, isLeft, problemBox } from "./parts.js";

/** Opens a dialog and returns `{ element, close }`. It is removed when it is closed. */
export function open(title, content, { wide, onClose } = {}) {
  const id = fresh("dialog");
  const before = document.activeElement;
  const close = () => element.close();
  const x = h("button", { type: "button", class: "plain close", "aria-label": "Close", on: { click: close } }, "×");
  const element = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": id }, h("div", { class: "dialog-head" }, h("h2", { id }, title), x), content);
  element.addEventListener("close", () => {
    element.remove();
    if (before?.isConnected) before.focus();
    else document.querySelector("main h1")?.focus();
    onClose?.();
  });
  document.body.append(element);
  element.showModal();
  element.querySelector("input, select, textarea, .primary, .danger")?.focus();
  return { element, close };
}

/** Closes whatever is open: the page below has gone. */
export function closeAll() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/**
 * Asks before something is done that cannot be undone. `name` must be typed where it is given; `fields` are further controls.
 * `act` does it; what goes wrong stands in the dialog, which stays open then.
 */
export function confirm({ title, text, name, action, fields = [], act, kind = "danger" }) {
  const outcome = h("div", { "aria-live": "polite" });
  const typed = name !== undefined && input({ required: true });
  const submit = h("button", { type: "submit", class: kind }, action);
  const cancel = h("button", { type: "button", class: "plain", on: { click: () => dialog.close() } }, "Cancel");
  const form = h(
    "form",
    { class: "stack" },
    text && h("p", {}, text),
    fields,
    typed && field(h("span", {}, "To go on, type ", h("code", { class: "break" }, name)), typed),
    outcome,
    h("div", { class: "buttons" }, cancel, submit),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (typed && typed.value !== name) {
      put(outcome, problemBox(new Error("what you typed is another name")));
      typed.focus();
      return;
    }
    await during(submit, outcome, async () => {
      const after = await act();
      dialog.close();
      after?.();
    }).catch((error) => isLeft(error) || Promise.reject(error));
  });
  const dialog = open(title, form);
  return dialog;
}
