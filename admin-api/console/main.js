// The console: who is signed in, which page is open, and the way between pages.

import { credential, signedOut } from "./api.js";
import { closeAll } from "./dialog.js";
import { announce, h, link, put } from "./dom.js";
import { actor, learn, offers } from "./offer.js";
import { badge, heading, isLeft, problemBox, button } from "./parts.js";
import { audit } from "./pages/audit.js";
import { closes } from "./pages/closes.js";
import { connection, connections } from "./pages/connections.js";
import { keys } from "./pages/keys.js";
import { limits } from "./pages/limits.js";
import { overview } from "./pages/overview.js";
import { policies } from "./pages/policies.js";
import { signIn } from "./pages/sign-in.js";
import { tokens } from "./pages/tokens.js";
import { topic } from "./pages/topic.js";
import { topics } from "./pages/topics.js";
import { trace } from "./pages/trace.js";
import { user, users } from "./pages/users.js";
import { webhook, webhooks } from "./pages/webhooks.js";

/** What the navigation shows, by group. A page is there if one of the operations that it needs is offered. */
const GROUPS = [
  ["Cluster", [overview, topics, connections, users]],
  ["Investigate", [closes, trace, audit]],
  ["Rules and access", [policies, limits, tokens, keys]],
  ["Integrations", [webhooks]],
];

/** Pages of one thing, by the key of the list that they belong to. */
const DETAILS = { topics: topic, connections: connection, users: user, webhooks: webhook };

const PAGES = new Map(GROUPS.flatMap(([, pages]) => pages).map((page) => [page.key, page]));

const main = document.getElementById("main");
const navigation = document.getElementById("navigation");
const menu = document.getElementById("menu");

/** Ends whatever the open page has running. */
let leave = new AbortController();
let isSignedIn = false;

async function start() {
  put(main, h("p", { class: "loading" }, "Loading…"));
  try {
    await learn();
  } catch (error) {
    if (error.code === "unauthenticated") return showSignIn(credential.get() ? error.message : undefined);
    put(main, heading("The console cannot begin"), problemBox(error), h("div", { class: "buttons" }, button("Try again", start), button("Sign in", () => showSignIn())));
    return undefined;
  }
  isSignedIn = true;
  frame();
  return show();
}

/** What stands around every page. */
function frame() {
  const { name, role } = actor();
  const who = document.getElementById("who");
  put(who, h("span", { class: "who-name" }, name), " ", badge(role));
  who.hidden = false;
  document.getElementById("sign-out").hidden = !credential.get();
  const item = (page) => h("li", {}, link([page.key], page.title, {}, { "data-key": page.key }));
  const groups = GROUPS.map(([title, pages]) => [title, pages.filter(isOffered)]).filter(([, pages]) => pages.length);
  put(navigation, groups.map(([title, pages], i) => h("div", { class: "nav-group" }, h("p", { id: `group-${i}` }, title), h("ul", { "aria-labelledby": `group-${i}` }, pages.map(item)))));
  navigation.hidden = false;
  menu.hidden = false;
}

const isOffered = (page) => page.needs.some(offers);

/** Shows the page that the address names. */
async function show() {
  if (!isSignedIn) return;
  leave.abort();
  leave = new AbortController();
  closeAll();
  closeMenu();
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = ["?"];
  }
  const first = [...PAGES.values()].find(isOffered);
  const [key = first?.key, ...rest] = parts;
  const list = PAGES.get(key);
  const page = rest.length && list ? DETAILS[key] : list;
  for (const anchor of navigation.querySelectorAll("a")) {
    if (anchor.dataset.key === key) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const root = h("div", { class: "page" });
  put(main, root);
  if (!page || !isOffered(page)) {
    put(root, heading("There is no such page"), h("p", {}, page ? "Your role does not show it, or this node does not have it." : "Choose one from the navigation."));
  } else {
    try {
      await page.render({ root, params: rest, query: new URLSearchParams(search), signal: leave.signal });
    } catch (error) {
      if (!isLeft(error)) root.append(problemBox(error));
    }
  }
  settle(root);
}

/** A new page begins at its top: with its title, and with the focus on its heading. */
function settle(root) {
  if (!root.isConnected) return;
  const title = root.querySelector("h1");
  document.title = title ? `${title.textContent} · Bongsu console` : "Bongsu console";
  if (!root.contains(document.activeElement)) {
    title?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function showSignIn(why) {
  isSignedIn = false;
  leave.abort();
  closeAll();
  credential.set("");
  navigation.hidden = true;
  menu.hidden = true;
  document.getElementById("who").hidden = true;
  document.getElementById("sign-out").hidden = true;
  document.title = "Sign in · Bongsu console";
  const root = h("div", { class: "page" });
  put(main, root);
  signIn.render({ root, why, signedIn: start });
}

signedOut.addEventListener("signed-out", (event) => {
  if (isSignedIn) showSignIn(event.detail);
});
document.getElementById("sign-out").addEventListener("click", () => {
  showSignIn();
  announce("Signed out");
});
addEventListener("hashchange", show);

function closeMenu() {
  menu.setAttribute("aria-expanded", "false");
  navigation.classList.remove("open");
}
menu.addEventListener("click", () => {
  const isOpen = navigation.classList.toggle("open");
  menu.setAttribute("aria-expanded", String(isOpen));
  if (isOpen) navigation.querySelector("a")?.focus();
});

// The hash is the page's address, so the skip link moves the focus itself.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  (main.querySelector("h1") ?? main).focus();
});

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest?.("input, textarea, select, dialog, [contenteditable]");
  if (event.key === "/" && !isTyping) {
    const search = main.querySelector("[data-search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select?.();
  }
  if (event.key === "Escape" && navigation.classList.contains("open")) {
    closeMenu();
    menu.focus();
  }
});

const THEME = "bongsu.theme";
const theme = document.getElementById("theme");
function paint(choice) {
  if (choice) document.documentElement.dataset.theme = choice;
  else delete document.documentElement.dataset.theme;
}
theme.value = localStorage.getItem(THEME) ?? "";
paint(theme.value);
theme.addEventListener("change", () => {
  if (theme.value) localStorage.setItem(THEME, theme.value);
  else localStorage.removeItem(THEME);
  paint(theme.value);
});

start();
