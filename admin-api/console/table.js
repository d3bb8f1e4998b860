// A table of what comes in pages. Only one page is ever held.

import { announce, fresh, h, put } from "./dom.js";
import { button, empty, isLeft, problemBox } from "./parts.js";

/** Characters that a cell shows on one line: 28, a time or an address. */
const SHORT_CHARS = 28;

/** The list in an answer: under its own name or `items`, else the only list that there is. */
export function rowsOf(answer, name) {
  if (Array.isArray(answer)) return answer;
  for (const key of [name, "items"]) if (Array.isArray(answer?.[key])) return answer[key];
  const lists = Object.entries(answer ?? {}).filter(([key, value]) => Array.isArray(value) && key !== "missing");
  return lists.length === 1 ? lists[0][1] : [];
}

/**
 * One table. `columns` are `{ title, cell, number, header, wide, isQuiet }`: `cell(row)` is what stands in it, `header` marks the cell that names
 * its row, `isQuiet` a title that only screen readers get.
 * On a narrow screen each row becomes a card; the roles keep it a table for screen readers all the same.
 */
export function table(caption, columns, rows, { captionHidden = true } = {}) {
  const head = columns.map(({ title, number, isQuiet }) => h("th", { scope: "col", role: "columnheader", class: number ? "number" : "" }, isQuiet ? h("span", { class: "visually-hidden" }, title) : title));
  const cell = (row) => (column) => {
    const props = { class: [column.number && "number", column.wide && "wide"].filter(Boolean).join(" "), "data-label": column.isQuiet ? "" : column.title };
    const made = column.header
      ? h("th", { ...props, scope: "row", role: "rowheader" }, column.cell(row))
      : h("td", { ...props, role: "cell" }, column.cell(row));
    // What is short stays on one line; what is long breaks wherever it must, so that no name widens the page.
    if (!column.wide && made.textContent.length <= SHORT_CHARS) made.classList.add("short");
    return made;
  };
  return h(
    "table",
    { role: "table" },
    h("caption", { class: captionHidden ? "visually-hidden" : "" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, columns.map(cell(row))))),
  );
}

/**
 * A table with its pages. `load(after)` answers `{ rows, next, missing, note }`; `next` is where the page after begins.
 * Returns `{ element, reload, again }`: `reload` begins at the first page, `again` shows the same one anew.
 */
export function listing({ caption, columns, load, none = "There is nothing here." }) {
  const box = h("div", { class: "listing", id: fresh("listing") });
  // Where the pages up to this one begin. Bounded by how often somebody presses a button.
  let starts = [undefined];
  let n_asked = 0;

  async function show() {
    n_asked += 1;
    const mine = n_asked;
    box.setAttribute("aria-busy", "true");
    try {
      const page = await load(starts.at(-1));
      if (mine === n_asked) draw(page);
    } catch (error) {
      if (!isLeft(error) && mine === n_asked) put(box, problemBox(error), button("Try again", show));
    } finally {
      if (mine === n_asked) box.removeAttribute("aria-busy");
    }
  }

  function draw({ rows, next, missing = [], note }) {
    const n_before = starts.length - 1;
    const back = n_before > 0 && button("Previous page", () => turn(starts.slice(0, -1)));
    const on = next && button("Next page", () => turn([...starts, next]));
    const text = rows.length === 0 ? none : `${caption}: ${rows.length} on this page${next ? ", and there are more" : ""}`;
    announce(text);
    put(
      box,
      missing.length > 0 && h("p", { class: "notice wait", role: "alert" }, `Not in this list, since they did not answer: ${missing.join(", ")}.`),
      rows.length === 0 ? empty(none) : table(caption, columns, rows),
      note && h("p", { class: "hint" }, note),
      (back || on) && h("div", { class: "pager", role: "group", "aria-label": "Pages" }, back, h("span", {}, `Page ${n_before + 1}`), on),
    );
  }

  async function turn(to) {
    starts = to;
    await show();
    const first = box.querySelector("tbody a, tbody button, .pager button");
    first?.focus();
  }

  const reload = () => {
    starts = [undefined];
    return show();
  };
  put(box, h("p", { class: "loading" }, "Loading…"));
  return { element: box, reload, again: show };
}
