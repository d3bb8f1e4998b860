// A live trace of one session, one user or one topic: what came, what was decided, what was dropped.

import { follow } from "../api.js";
import { address, h, put } from "../dom.js";
import { time } from "../format.js";
import { keepFollowing, lines } from "../lines.js";
import { takes } from "../offer.js";
import { badge, empty, field, heading, input, problemBox, select } from "../parts.js";

const TRACE = "GET /v1/trace";

const WHAT = [["session", "Session"], ["subject", "User"], ["topic", "Topic"]];

export const trace = {
  key: "trace",
  title: "Trace",
  needs: [TRACE],
  render({ root, query, signal }) {
    const known = WHAT.filter(([name]) => takes(TRACE, name));
    const choices = known.length ? known : WHAT;
    const chosen = choices.find(([name]) => query.get(name))?.[0];
    const what = select(choices, chosen ?? choices[0][0]);
    const whose = input({ required: true, maxlength: 255, "data-search": true, value: chosen ? query.get(chosen) : "" });
    const form = h("form", { class: "filters", role: "search" }, field("Trace one", what), field("Its name", whose), h("button", { type: "submit", class: "primary" }, "Trace"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      location.hash = address(["trace"], { [what.value]: whose.value });
    });
    const box = h("div");
    put(root, heading("Trace", { note: "Frames, decisions and drops as they happen. It ends when you leave this page." }), form, box);
    if (!chosen) {
      put(box, empty("Say what to trace. Nothing is traced until then."));
      return;
    }
    const outcome = h("div");
    const live = lines(`Trace of ${query.get(chosen)}`, line);
    put(box, outcome, live.element);
    keepFollowing(signal, live.say, () => follow(TRACE, { query: { [chosen]: query.get(chosen) }, signal }, live.add)).catch((error) => put(outcome, problemBox(error)));
  },
};

const FIRST = ["time", "node", "session", "what", "frame", "topics", "text"];

/** What is worth a second look. */
const GRAVE = ["refused", "lost", "dropped", "missing", "closed"];

/** One line: when, where, what, and all the rest of it. */
function line({ event, data }) {
  if (!data || typeof data !== "object") return h("p", { class: "trace" }, badge(event), " ", String(data).slice(0, 4000));
  const what = String(data.what ?? event);
  const rest = Object.entries(data).filter(([name, value]) => !FIRST.includes(name) && value !== null && value !== "");
  const part = ([name, value]) => [h("span", { class: "quiet" }, `${name}=`), h("span", {}, (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 2000)), " "];
  return h(
    "p",
    { class: "trace" },
    data.time && h("span", { class: "quiet" }, `${time(data.time).slice(11)} `),
    data.node && h("span", { class: "quiet" }, `${data.node} `),
    badge(what, GRAVE.includes(what) ? "wait" : ""),
    data.frame && [" ", h("strong", {}, data.frame)],
    " ",
    data.session && [h("code", {}, data.session), " "],
    (data.topics ?? []).map((topic) => [topic, " "]),
    rest.map(part),
    data.text,
  );
}
