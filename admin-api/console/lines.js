// Lines that keep coming: a live tail, a trace. The newest thousand are kept, whatever comes.

import { announce, h, put } from "./dom.js";
import { count } from "./format.js";
import { button } from "./parts.js";

/** Lines that are kept: 1,000. Older ones leave the page. */
export const LINES_MAX = 1000;

/**
 * A box of lines. `draw(item)` makes one of what came. While it is paused, up to a thousand wait and the older of them are dropped and counted.
 * Lines are drawn once per frame, so that a fast stream does not stop the page.
 */
export function lines(label, draw) {
  const list = h("ol", { "aria-label": label });
  const view = h("div", { class: "lines", role: "log", "aria-label": label, "aria-live": "off", tabindex: "0" }, list);
  const state = h("p", { class: "hint", role: "status" });
  const figures = h("p", { class: "hint" });
  let waiting = [];
  let n_came = 0;
  let n_dropped = 0;
  let isPaused = false;
  let isDue = false;

  const pause = button("Pause", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume" : "Pause";
    announce(isPaused ? "Paused" : "Resumed");
    schedule();
    tell();
  });
  const clear = button("Clear", () => {
    put(list);
    waiting = [];
    n_came = 0;
    n_dropped = 0;
    tell();
    announce("Cleared");
  });
  const aloud = button("Read aloud", () => {
    const isOn = view.getAttribute("aria-live") === "off";
    view.setAttribute("aria-live", isOn ? "polite" : "off");
    aloud.setAttribute("aria-pressed", String(isOn));
  }, { class: "plain", "aria-pressed": "false" });

  function add(item) {
    n_came += 1;
    waiting.push(item);
    if (waiting.length > LINES_MAX) {
      waiting.shift();
      n_dropped += 1;
    }
    schedule();
  }

  function schedule() {
    if (isDue) return;
    isDue = true;
    // A hidden tab draws no frames, and a timer there fires once a second at most: both are fine.
    const soon = document.hidden ? (work) => setTimeout(work, 250) : requestAnimationFrame;
    soon(() => {
      isDue = false;
      flush();
    });
  }

  function flush() {
    tell();
    if (isPaused || waiting.length === 0) return;
    const isAtEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 40;
    list.append(...waiting.map((item) => h("li", {}, draw(item))));
    waiting = [];
    while (list.childElementCount > LINES_MAX) {
      list.firstElementChild.remove();
      n_dropped += 1;
    }
    if (isAtEnd) view.scrollTop = view.scrollHeight;
    tell();
  }

  function tell() {
    const parts = [`${count(n_came)} came`];
    if (n_dropped) parts.push(`${count(n_dropped)} older ones are no longer here`);
    if (isPaused) parts.push(`paused, ${count(waiting.length)} wait`);
    figures.textContent = parts.join(" · ");
  }

  tell();
  const element = h("div", { class: "live" }, h("div", { class: "toolbar" }, pause, clear, aloud, figures), state, view);
  return { element, add, say: (text) => (state.textContent = text) };
}

/** Follows something again and again until the signal says so; waits a little longer after each end, up to 10 s. */
export async function keepFollowing(signal, say, follow) {
  let wait_ms = 500;
  while (!signal.aborted) {
    const began = Date.now();
    try {
      say("Following.");
      await follow();
      say("The stream ended. Following again soon.");
    } catch (error) {
      if (signal.aborted) return;
      // What will not mend by itself is not asked again.
      if (error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429) throw error;
      say(`${error.message}. Following again soon.`);
    }
    wait_ms = Date.now() - began > 10_000 ? 500 : Math.min(wait_ms * 2, 10_000);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait_ms);
      signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
    });
  }
}
