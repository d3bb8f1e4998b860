// Tokens: what one may do and why not, and one to try things out with.

import { ask } from "../api.js";
import { h, put } from "../dom.js";
import { bodyForm } from "../form.js";
import { offers } from "../offer.js";
import { badge, during, factsOf, heading, section } from "../parts.js";
import { secret } from "./keys.js";

const MINT = "POST /v1/tokens";
const CHECK = "POST /v1/tokens/check";

export const tokens = {
  key: "tokens",
  title: "Tokens",
  needs: [CHECK, MINT],
  render({ root }) {
    put(root, heading("Tokens"), offers(CHECK) && check(), offers(MINT) && mint());
  },
};

/** A form of what an operation takes, and what was answered below it. */
function trial({ operation, text, action, show }) {
  const form = bodyForm(operation);
  const outcome = h("div", { "aria-live": "polite" });
  const submit = h("button", { type: "submit", class: "primary" }, action);
  const element = h("form", { class: "stack" }, h("p", {}, text), form.fields, h("div", { class: "buttons" }, submit), outcome);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    await during(submit, outcome, async () => {
      const { data } = await ask(operation, { body: form.read() });
      put(outcome, show(data));
    });
  });
  return element;
}

function check() {
  const show = ({ valid, allowed, grants, ...rest }) => [
    h("p", {}, badge(valid ? "valid" : "refused", valid ? "good" : "bad"), " ", typeof allowed === "boolean" && badge(allowed ? "may do that" : "may not do that", allowed ? "good" : "bad")),
    factsOf({ ...rest, ...grants }, { first: ["text", "reason", "subject", "issuer", "id", "issued_at", "expires_at"] }),
  ];
  return section("What may it do?", trial({ operation: CHECK, text: "The node verifies the token as it would at a handshake. Nothing is kept of it.", action: "Check", show }));
}

function mint() {
  const show = (data) => [typeof data.token === "string" && secret("The token", data.token), factsOf(data, { skip: ["token"] })];
  return section("Make one to try out", trial({ operation: MINT, text: "Signed by an issuer whose secret this node knows. It is shown once.", action: "Make a token", show }));
}
