// What may be offered: what the node's own document says that there is, and what the role of whoever asks allows.

import { ask } from "./api.js";

const RANKS = ["viewer", "operator", "admin"];

let known = { operations: new Map(), schemas: {}, actor: undefined };

/** Learns who asks and what there is. Call it once after signing in. */
export async function learn(signal) {
  const { data: actor } = await ask("GET /v1/whoami", { signal });
  const { data: document } = await ask("GET /v1/openapi.json", { signal });
  const operations = new Map();
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(item)) {
      if (operation && typeof operation === "object") operations.set(`${method.toUpperCase()} ${path}`, operation);
    }
  }
  known = { operations, schemas: document.components?.schemas ?? {}, actor };
  return actor;
}

/** Who asks: `{ name, role }`. */
export const actor = () => known.actor;

/** Whether the broker has this operation at all. */
export const exists = (operation) => known.operations.has(operation);

/** The role that an operation takes. */
export const roleOf = (operation) => known.operations.get(operation)?.["x-role"] ?? "admin";

/** Whether the broker has this operation and whoever asks may use it. */
export function offers(operation) {
  return exists(operation) && RANKS.indexOf(known.actor?.role) >= RANKS.indexOf(roleOf(operation));
}

/** Whether an operation takes this parameter in its query: one that it does not know would be refused. */
export function takes(operation, parameter) {
  return parameters(operation).some(({ name }) => name === parameter);
}

/** The parameters of an operation's query. */
export function parameters(operation) {
  const found = (known.operations.get(operation)?.parameters ?? []).filter((one) => one.in === "query");
  return found.map((one) => ({ ...one, schema: resolve(one.schema) }));
}

/** Of some query, what an operation takes. */
export function only(operation, query) {
  return Object.fromEntries(Object.entries(query).filter(([name]) => takes(operation, name)));
}

/** The schema of an operation's JSON body; nothing where it takes none. */
export function body(operation) {
  const content = known.operations.get(operation)?.requestBody?.content ?? {};
  const schema = content["application/json"]?.schema;
  return schema && resolve(schema);
}

/** The types of body that an operation takes. */
export const bodyTypes = (operation) => Object.keys(known.operations.get(operation)?.requestBody?.content ?? {});

/** What an operation is for, in the document's words. */
export const summary = (operation) => known.operations.get(operation)?.summary ?? "";

/** A schema without references and without the wrapping that says "or null". Descriptions of where it is used win. */
export function resolve(schema, depth = 0) {
  if (!schema || depth > 8) return {};
  if (schema.$ref) {
    const { $ref, ...beside } = schema;
    const name = $ref.split("/").pop();
    return { ...resolve(Object.hasOwn(known.schemas, name) ? known.schemas[name] : {}, depth + 1), ...beside };
  }
  const choices = (schema.oneOf ?? schema.anyOf ?? schema.allOf)?.filter((one) => one.type !== "null");
  if (choices?.length === 1) {
    const { oneOf: _, anyOf: __, allOf: ___, ...beside } = schema;
    return { ...resolve(choices[0], depth + 1), ...beside };
  }
  if (schema.allOf) {
    const parts = schema.allOf.map((one) => resolve(one, depth + 1));
    const properties = Object.assign({}, ...parts.map((one) => one.properties ?? {}), schema.properties);
    return { ...schema, allOf: undefined, type: "object", properties, required: parts.flatMap((one) => one.required ?? []) };
  }
  if (Array.isArray(schema.type)) return { ...schema, type: schema.type.find((one) => one !== "null") };
  return schema;
}
