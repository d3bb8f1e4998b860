// Forms that are made of what the API's own document says of a request, so that they take what the broker takes.

import { h } from "./dom.js";
import { Problem } from "./api.js";
import { body, parameters, resolve } from "./offer.js";
import { field, input, select } from "./parts.js";
import { fromLocal, words } from "./format.js";

/**
 * The fields of an operation's body. Returns `{ fields, read }`; `read()` is the body, without what was left empty.
 * `hide` are members that the caller fills in; `preset` what fields begin with.
 */
export function bodyForm(operation, { hide = [], preset = {}, labels = {} } = {}) {
  const schema = body(operation) ?? {};
  return members(schema.properties ?? {}, schema.required ?? [], { hide, preset, labels });
}

/** The fields of an operation's query. */
export function queryForm(operation, { hide = [], preset = {}, labels = {} } = {}) {
  const found = parameters(operation);
  const properties = Object.fromEntries(found.map(({ name, schema, description }) => [name, { ...schema, description: description ?? schema.description }]));
  return members(properties, found.filter((one) => one.required).map((one) => one.name), { hide, preset, labels, isFilter: true });
}

function members(properties, required, { hide, preset, labels, isFilter }) {
  const entries = Object.entries(properties).filter(([name]) => !hide.includes(name));
  const made = entries.map(([name, schema]) => [name, member(name, resolve(schema), { isRequired: required.includes(name), preset: preset[name], label: labels[name] ?? words(name), isFilter })]);
  const read = () => {
    const found = {};
    for (const [name, { value }] of made) {
      const got = value();
      if (got !== undefined) found[name] = got;
    }
    return found;
  };
  return { fields: made.map(([, { element }]) => element), read, focus: (name) => made.find(([one]) => one === name)?.[1].control.focus() };
}

/** The first sentence of what the document says. */
const firstOf = (text) => text?.split("\n\n")[0].replaceAll("`", "").replaceAll(/\[([^\]]+)\](\([^)]*\))?/g, "$1");

function member(name, schema, { isRequired, preset, label, isFilter }) {
  const { control, value, wide } = controlOf(name, schema, isRequired, preset);
  const hint = firstOf(schema.description);
  return { element: field(isRequired || isFilter ? label : `${label} (optional)`, control, { hint, wide }), control, value };
}

function controlOf(name, schema, isRequired, preset) {
  const required = isRequired || undefined;
  const choices = schema.enum ?? schema.oneOf?.map((one) => one.const ?? one.enum?.[0]).filter((one) => typeof one === "string");
  if (choices?.length) {
    const options = isRequired ? [] : [["", "–"]];
    const control = select([...options, ...choices.filter((one) => one !== null).map((one) => [one, words(one)])], preset);
    return { control, value: () => control.value || undefined };
  }
  if (schema.type === "boolean") {
    const control = select([["", "–"], ["true", "yes"], ["false", "no"]], preset === undefined ? "" : String(preset));
    return { control, value: () => (control.value === "" ? undefined : control.value === "true") };
  }
  if (schema.type === "integer" || schema.type === "number") {
    const control = input({ type: "number", required, min: schema.minimum, max: schema.maximum, step: schema.type === "integer" ? 1 : "any", value: preset ?? "" });
    return { control, value: () => (control.value === "" ? undefined : Number(control.value)) };
  }
  if (schema.format === "date-time") {
    const control = input({ type: "datetime-local", step: 1, required, value: preset ?? "" });
    return { control, value: () => (control.value === "" ? undefined : fromLocal(control.value)) };
  }
  if (schema.type === "array" && resolve(schema.items).type === "string") return listOf(required, preset);
  if (schema.type === "string" || schema.type === undefined && schema.properties === undefined && preset === undefined && !schema.additionalProperties) {
    const isSecret = /token|secret|password/.test(name) && schema.format === "password";
    const control = input({ required, maxlength: schema.maxLength, type: isSecret ? "password" : "text", placeholder: typeof schema.example === "string" ? schema.example : undefined, value: preset ?? "" });
    return { control, value: () => (control.value === "" ? undefined : control.value) };
  }
  return jsonOf(name, schema, required, preset);
}

/** One on each line. */
function listOf(required, preset) {
  const control = h("textarea", { rows: 3, required, spellcheck: "false", autocapitalize: "none", placeholder: "one on each line", value: (preset ?? []).join("\n") });
  const value = () => {
    const found = control.value.split("\n").map((line) => line.trim()).filter(Boolean);
    return found.length || required ? found : undefined;
  };
  return { control, value, wide: true };
}

function jsonOf(name, schema, required, preset) {
  const start = preset ?? (required ? template(schema) : undefined);
  const control = h("textarea", { rows: 6, class: "code", required, spellcheck: "false", placeholder: "JSON", value: start === undefined ? "" : JSON.stringify(start, null, 2) });
  const value = () => {
    if (control.value.trim() === "") return undefined;
    try {
      return JSON.parse(control.value);
    } catch (error) {
      throw new Problem({ code: "bad_request", detail: `${words(name)} is no JSON: ${error.message}` });
    }
  };
  return { control, value, wide: true };
}

/** An example of what a schema takes. */
export function template(schema, depth = 0) {
  const whole = resolve(schema);
  if (whole.example !== undefined) return whole.example;
  if (whole.examples?.[0] !== undefined) return whole.examples[0];
  if (whole.default !== undefined) return whole.default;
  if (whole.properties && depth < 4) {
    const needed = Object.entries(whole.properties).filter(([name]) => (whole.required ?? []).includes(name));
    return Object.fromEntries(needed.map(([name, inner]) => [name, template(inner, depth + 1)]));
  }
  return { array: [], object: {}, string: "", integer: whole.minimum ?? 0, number: 0, boolean: false }[whole.type] ?? null;
}
