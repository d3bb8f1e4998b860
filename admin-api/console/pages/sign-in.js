// Signing in: a token, which stays in this tab.

import { ask, credential } from "../api.js";
import { h, put } from "../dom.js";
import { during, field, input, problemBox, sentence } from "../parts.js";

export const signIn = {
  render({ root, why, signedIn }) {
    const outcome = h("div", { "aria-live": "polite" });
    const token = input({ type: "password", required: true, maxlength: 8192, name: "token" });
    const submit = h("button", { type: "submit", class: "primary" }, "Sign in");
    const form = h("form", { class: "stack" }, field("Token of an administrator", token, { hint: "It stays in this tab and is forgotten when the tab is closed. It is never part of an address." }), outcome, submit);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await during(submit, outcome, async () => {
        // Only what can stand in a header.
        if (!/^[\x21-\x7e]+$/.test(token.value.trim())) throw new Error("a token is letters, digits and signs without spaces");
        credential.set(token.value.trim());
        try {
          await ask("GET /v1/whoami");
        } catch (error) {
          credential.set("");
          throw error;
        }
        await signedIn();
      });
    });
    put(root, h("div", { class: "panel narrow" }, h("h1", { tabindex: "-1" }, "Sign in"), why && h("p", { class: "notice wait" }, sentence(why)), form));
    token.focus();
    if (location.search) put(outcome, problemBox(new Error("the console takes nothing from its address: type the token here")));
  },
};
