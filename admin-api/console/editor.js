// An editor of a document that every node follows: it is checked as one types, saved only over the version that one saw, and has a history.

import { Problem, ask, parse } from "./api.js";
import { confirm, open } from "./dialog.js";
import { announce, fresh, h, put } from "./dom.js";
import { bytes } from "./format.js";
import { offers } from "./offer.js";
import { block, button, code, empty, isLeft, notice, problemBox, section, when, whenBrief } from "./parts.js";
import { listing, rowsOf } from "./table.js";

/** How long nobody must have typed before the document is checked: 400 ms. */
const PAUSE_MS = 400;

/** Lines of a document that are compared with another. */
const COMPARED_LINES_MAX = 2000;

const pretty = (any) => JSON.stringify(any, null, 2);

/**
 * The editor. `operations` are `{ read, write, validate, versions, version, rollback }`; what is not offered is not shown.
 * `wrap` makes the body of what is in the editor, `unwrap` the other way round.
 */
export function editor({ title, operations, rows = 18, unwrap = (data) => data, wrap = (document) => document, signal, saved }) {
  const mayWrite = offers(operations.write);
  const text = h("textarea", { class: "code", rows, spellcheck: "false", autocapitalize: "none", "aria-describedby": fresh("verdict"), readonly: !mayWrite });
  text.id = fresh("document");
  const verdict = h("div", { id: text.getAttribute("aria-describedby"), "aria-live": "polite", class: "verdict" });
  const outcome = h("div");
  const save = button("Save…", () => askToSave(), { class: "primary" });
  const revert = button("Undo my changes", () => show(current), { class: "plain" });
  const history = versionsOf(operations, signal, () => load());
  const element = section(title, h("label", { for: text.id, class: "visually-hidden" }, `${title}, as JSON`), text, verdict, outcome, mayWrite && h("div", { class: "buttons" }, revert, save));

  let current;
  let timer;
  let n_checks = 0;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE_MS);
  });
  // Tab leaves the field, as everywhere: nobody is caught in it.
  signal.addEventListener("abort", () => clearTimeout(timer));

  async function load() {
    const { data, etag } = await ask(operations.read, { signal });
    show({ document: unwrap(data), etag, data });
    await history?.reload();
  }

  function show(state) {
    current = state;
    text.value = pretty(state.document);
    put(outcome);
    put(verdict, h("p", { class: "hint" }, standing(state.data)));
    text.removeAttribute("aria-invalid");
  }

  const standing = ({ version, by, time }) => ["As it holds now", version !== undefined && [", version ", code(version)], by && `, by ${by}`, time && [", ", when(time)], "."];

  /** The body that stands in the editor; a problem with the place where it is no JSON. */
  function body() {
    try {
      return wrap(parse(text.value), current?.data);
    } catch (error) {
      const at = /line (\d+) column (\d+)|position (\d+)/.exec(error.message);
      const line = at?.[1] ?? (at?.[3] && text.value.slice(0, Number(at[3])).split("\n").length);
      throw new Problem({ code: "bad_request", detail: `this is no JSON${line ? `, in line ${line}` : ""}: ${error.message.split(" in JSON")[0]}` });
    }
  }

  async function check() {
    n_checks += 1;
    const mine = n_checks;
    try {
      const candidate = body();
      const answer = offers(operations.validate) ? (await ask(operations.validate, { body: candidate, signal })).data : undefined;
      if (mine === n_checks) tell(answer);
    } catch (error) {
      if (mine === n_checks && !isLeft(error)) refuse(error);
    }
  }

  function tell(answer) {
    const faults = answer?.errors ?? answer?.faults ?? [];
    if (faults.length > 0 || answer?.valid === false) return refuse(new Problem({ code: "invalid", detail: answer.detail ?? "this cannot hold as it is", errors: faults }));
    text.removeAttribute("aria-invalid");
    const warnings = answer?.warnings ?? [];
    const isChanged = text.value !== pretty(current.document);
    put(verdict, h("p", { class: "hint good" }, isChanged ? (answer === undefined ? "Changed, not saved." : "Valid. Not saved yet.") : standing(current.data)), warnings.map((one) => h("p", { class: "hint wait" }, typeof one === "string" ? one : `${one.at}: ${one.detail}`)));
    return undefined;
  }

  function refuse(error) {
    text.setAttribute("aria-invalid", "true");
    put(verdict, problemBox(error));
  }

  function askToSave() {
    let candidate;
    try {
      candidate = body();
    } catch (error) {
      refuse(error);
      return;
    }
    const changes = compare(pretty(current.document), text.value);
    confirm({
      title: `Save ${title.toLowerCase()}`,
      text: "Every node takes this over within a second.",
      fields: [h("div", { class: "diff-box" }, changes)],
      action: "Save",
      kind: "primary",
      act: async () => {
        try {
          await ask(operations.write, { body: candidate, headers: current.etag ? { "if-match": current.etag } : {} });
        } catch (error) {
          if (error.status !== 412) throw error;
          const theirs = await ask(operations.read, { signal });
          return () => settle({ document: unwrap(theirs.data), etag: theirs.etag, data: theirs.data });
        }
        return async () => {
          await load();
          put(outcome, notice("Saved. Every node follows it."));
          saved?.();
        };
      },
    });
  }

  /** Two people changed the same version: both stand side by side, and whoever came late decides. */
  function settle(theirs) {
    const mine = text.value;
    announce("It was changed by somebody else since you loaded it.");
    const side = (name, content) => h("div", {}, h("h3", {}, name), block(content, name));
    const keep = button("Go on with mine, over theirs", () => {
      current = theirs;
      text.value = mine;
      dialog.close();
      check();
    });
    const take = button("Take theirs", () => {
      show(theirs);
      dialog.close();
    }, { class: "primary" });
    const content = h(
      "div",
      { class: "stack" },
      h("p", {}, "Somebody else saved another version since you loaded this one. Yours is not saved."),
      h("div", { class: "sides" }, side("Theirs, which holds now", pretty(theirs.document)), side("Yours", mine)),
      h("h3", {}, "From theirs to yours"),
      h("div", { class: "diff-box" }, compare(pretty(theirs.document), mine)),
      h("div", { class: "buttons" }, keep, take),
    );
    const dialog = open("It has changed", content, { wide: true });
    put(outcome, notice("Not saved: somebody else saved another version.", "wait"));
  }

  return { element, versions: history?.element, load };
}

/** The versions of a document, the newest first, each to be looked at and rolled back to. */
function versionsOf(operations, signal, done) {
  if (!offers(operations.versions)) return undefined;
  const numberOf = (row) => row.version;
  const look = async (row) => {
    const { data } = await ask(operations.version, { path: { version: numberOf(row) }, signal });
    open(`Version ${numberOf(row)}`, block(data), { wide: true });
  };
  const back = (row) =>
    confirm({
      title: `Roll back to version ${numberOf(row)}`,
      text: "What held then is saved as a new version. Every node takes it over within a second.",
      name: String(numberOf(row)),
      action: "Roll back",
      act: async () => {
        const { etag } = await ask(operations.read, { signal });
        await ask(operations.rollback, { body: { version: numberOf(row) }, headers: etag ? { "if-match": etag } : {} });
        return async () => {
          await done();
          announce("Rolled back");
        };
      },
    });
  const acts = (row) => [
    offers(operations.version) && button("Look", () => look(row).catch((error) => isLeft(error) || open("This version cannot be shown", problemBox(error))), { class: "small", "aria-label": `Look at version ${numberOf(row)}` }),
    " ",
    offers(operations.rollback) && button("Roll back…", () => back(row), { class: "small", "aria-label": `Roll back to version ${numberOf(row)}` }),
  ];
  const list = listing({
    caption: "Versions",
    none: "There is no earlier version.",
    columns: [
      { title: "Version", header: true, cell: (row) => code(numberOf(row)) },
      { title: "When", cell: (row) => whenBrief(row.at ?? row.time ?? row.changed_at ?? row.saved_at) },
      { title: "Who", cell: (row) => row.actor ?? row.by ?? row.who ?? "–" },
      { title: "Size", number: true, cell: (row) => bytes(row.bytes) },
      { title: "Actions", isQuiet: true, cell: acts },
    ],
    load: async (after) => {
      const { data } = await ask(operations.versions, { query: { after }, signal });
      return { rows: rowsOf(data, "versions"), next: data.next };
    },
  });
  return { element: section("Versions", list.element), reload: list.reload };
}

/** What lines went and came between two texts. */
export function compare(from, to) {
  const [a, b] = [from.split("\n").slice(0, COMPARED_LINES_MAX), to.split("\n").slice(0, COMPARED_LINES_MAX)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const changes = between(a.slice(start, a.length - end), b.slice(start, b.length - end));
  if (changes.length === 0) return empty("Nothing is changed.");
  const context = (lines) => lines.map((line) => ["=", line]);
  const shown = [...context(a.slice(Math.max(0, start - 3), start)), ...changes, ...context(a.slice(a.length - end, a.length - end + 3))];
  const words = { "-": "removed", "+": "added", "=": "" };
  const classes = { "-": "gone", "+": "come", "=": "" };
  return h("ol", { class: "diff" }, shown.map(([sign, line]) => h("li", { class: classes[sign] }, h("span", { "aria-hidden": "true" }, sign === "=" ? " " : sign), words[sign] && h("span", { class: "visually-hidden" }, `${words[sign]}: `), line)));
}

/** The shortest way from some lines to others; where they are many, all of them go and come. */
function between(a, b) {
  if (a.length * b.length > 250_000) return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push(["=", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) found.push(["-", a[i++]]);
    else found.push(["+", b[j++]]);
  }
  return found;
}
