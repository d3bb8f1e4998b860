// An admin API of a whole cluster whose every text is hostile, for the pages of the console: what they show does not depend on what a test
// could bring about on one node.

import { HOSTILE } from "./console.js";

const TOPIC = HOSTILE.replaceAll("/", "|").replaceAll(/[+#]/g, "");
const at = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const names = (n, make) => Array.from({ length: n }, (_, i) => make(i));

const text = (description) => ({ type: "string", description });
const query = (...parameters) => ({
  parameters: parameters.map((name) => ({ in: "query", name, schema: name === "limit" ? { type: "integer" } : name === "since" ? { type: "string", format: "date-time" } : { type: "string" } })),
});
const body = (properties, required = []) => ({ requestBody: { content: { "application/json": { schema: { type: "object", properties, required } } } } });

/** Every operation that the console knows, with the role that it takes. */
const OPERATIONS = {
  "GET /v1/whoami": ["viewer"],
  "GET /v1/openapi.json": ["viewer"],
  "GET /v1/nodes": ["viewer"],
  "GET /v1/topics": ["viewer", query("prefix", "filter", "after", "limit")],
  "GET /v1/topics/{topic}": ["viewer"],
  "DELETE /v1/topics/{topic}": ["admin"],
  "GET /v1/topics/{topic}/messages": ["operator", query("from", "since", "before", "search", "after", "limit")],
  "POST /v1/topics/{topic}/messages": ["operator", body({ data: {}, text: text(), bytes: text(), type: text(), headers: { type: "object" }, id: text() })],
  "DELETE /v1/topics/{topic}/messages/{offset}": ["admin"],
  "POST /v1/topics/{topic}/messages/{offset}/republish": ["operator", body({ to: text("The topic."), id: text() })],
  "POST /v1/topics/{topic}/purge": ["admin", body({ until: { type: ["integer", "null"], minimum: 1, description: "The last offset to go." } })],
  "GET /v1/topics/{topic}/export": ["operator"],
  "POST /v1/topics/{topic}/import": ["admin", { requestBody: { content: { "application/x-ndjson": { schema: { type: "string" } } } } }],
  "GET /v1/topics/{topic}/tail": ["operator", query("from")],
  "GET /v1/presence/{topic}": ["viewer"],
  "GET /v1/connections": ["viewer", query("subject", "address", "transport", "topic", "node", "after", "limit")],
  "GET /v1/connections/{session}": ["viewer"],
  "DELETE /v1/connections/{session}": ["operator", query("reason")],
  "GET /v1/users": ["viewer", query("after", "limit")],
  "GET /v1/users/{subject}": ["viewer"],
  "POST /v1/users/{subject}/disconnect": ["operator", query("reason")],
  "GET /v1/blocks": ["viewer", query("after", "limit")],
  "GET /v1/blocks/{subject}": ["viewer"],
  "PUT /v1/blocks/{subject}": ["operator", body({ reason: text("Why."), until: { type: "string", format: "date-time" } })],
  "DELETE /v1/blocks/{subject}": ["operator"],
  "GET /v1/revocations": ["viewer", query("after", "limit")],
  "POST /v1/revocations": ["operator", body({ token: text("The id of one token."), subject: text(), issued_before: { type: "string", format: "date-time" } })],
  "DELETE /v1/revocations/{id}": ["operator"],
  "GET /v1/policies": ["viewer"],
  "PUT /v1/policies": ["admin", body({ policies: { type: "array", items: { type: "object" } } }, ["policies"])],
  "POST /v1/policies/validate": ["viewer", body({ policies: { type: "array", items: { type: "object" } } })],
  "POST /v1/policies/preview": ["viewer", body({ filter: text() })],
  "GET /v1/policies/versions": ["viewer", query("after", "limit")],
  "GET /v1/policies/versions/{version}": ["viewer"],
  "POST /v1/policies/rollback": ["admin", body({ version: text() })],
  "GET /v1/limits": ["viewer"],
  "PUT /v1/limits": ["admin", body({ limits: { type: "object" } }, ["limits"])],
  "POST /v1/tokens": ["admin", body({ subject: text("Who bears it."), subscribe: { type: "array", items: { type: "string" } } }, ["subject"])],
  "POST /v1/tokens/check": ["operator", body({ token: text("As a client shows it."), action: { type: "string", enum: ["subscribe", "publish"] } }, ["token"])],
  "GET /v1/keys": ["admin"],
  "PUT /v1/keys/{name}": ["admin", body({ role: { type: "string", enum: ["viewer", "operator", "admin"] } }, ["role"])],
  "DELETE /v1/keys/{name}": ["admin"],
  "GET /v1/webhooks": ["viewer"],
  "GET /v1/webhooks/{name}": ["viewer"],
  "GET /v1/webhooks/{name}/deliveries": ["viewer", query("limit")],
  "POST /v1/webhooks/{name}/redeliver": ["operator", body({ topic: text(), offset: { type: "integer" } })],
  "GET /v1/audit": ["viewer", query("actor", "action", "since", "after", "limit")],
  "GET /v1/closes": ["viewer", query("subject", "session", "reason", "after", "limit")],
  "GET /v1/trace": ["operator", query("session", "subject", "topic")],
};

function document() {
  const paths = {};
  for (const [operation, [role, more = {}]] of Object.entries(OPERATIONS)) {
    const [method, path] = operation.split(" ");
    paths[path] ??= {};
    paths[path][method.toLowerCase()] = { "x-role": role, responses: {}, ...more };
  }
  return { openapi: "3.1.0", paths, components: { schemas: {} } };
}

const node = (name, i) => ({
  name,
  address: `10.0.0.${i}:8080`,
  version: "0.1.0",
  started: at(7400),
  connections: 4200 + i,
  readers_behind: i,
  counters: { messages_in: Math.floor(Date.now() / 10), messages_out: Math.floor(Date.now() / 2), bytes_in: Date.now(), bytes_out: Date.now() },
  store: { status: "ok", latency_ms: 1.2 + i },
  bus: i === 2 ? { status: "degraded", reason: HOSTILE } : { status: "ok" },
  draining: false,
});

const topic = (name) => ({ topic: name, kind: "durable", messages: 12, bytes: 4096, first: { epoch: 1, offset: 1 }, head: { epoch: 1, offset: 40 }, subscribers: 3, messages_per_second: 1.5, published_at: at(4) });

function message(offset) {
  const whole = { topic: TOPIC, position: { epoch: 1, offset }, time: at(100 - offset), publisher: HOSTILE, id: HOSTILE, type: "text/plain", headers: { [HOSTILE]: HOSTILE }, size: 120 };
  if (offset === 36) return { ...whole, erased: true };
  if (offset === 37) return { ...whole, text: "long ".repeat(40_000) };
  if (offset === 38) return { ...whole, type: "application/json", data: { [HOSTILE]: [HOSTILE, 1, null] } };
  if (offset === 39) return { ...whole, type: "application/octet-stream", bytes: Buffer.from(HOSTILE).toString("base64") };
  return { ...whole, text: HOSTILE };
}

const connection = (i) => ({ session: i ? `n1-${i}` : HOSTILE, subject: HOSTILE, address: "10.1.2.3:54412", transport: "websocket", node: "n1", subscriptions: 2, waiting_bytes: 731, began: at(90 * i), token_id: HOSTILE, expires: null, traffic: { frames_in: 1, bytes_in: 2, frames_out: 3, bytes_out: 4 } });
const delivery = (offset) => ({ time: at(30), node: "n1", topic: TOPIC, position: { epoch: 1, offset }, id: HOSTILE, attempt: 1, outcome: offset % 2 ? "delivered" : "retry", status: offset % 2 ? 200 : 503, duration_ms: 41, error: offset % 2 ? null : HOSTILE });
const policies = { policies: [{ name: HOSTILE, filter: "chat/#", kind: "live" }], version: "1-7", by: HOSTILE, time: at(3600) };

/** What is answered to `GET path`; nothing for what is not there. */
function read(path) {
  const whole = {
    "/v1/whoami": { name: HOSTILE, role: "admin", address: "127.0.0.1" },
    "/v1/openapi.json": document(),
    "/v1/nodes": { nodes: [node("n1", 1), node("n2", 2), node(HOSTILE, 3)], missing: [HOSTILE] },
    "/v1/topics": { topics: ["chat/lobby", TOPIC].map(topic), next: "bmV4dA", missing: ["n4"] },
    "/v1/connections": { connections: names(4, connection), next: null, missing: [] },
    "/v1/users": { users: [{ subject: HOSTILE, connections: 2, nodes: ["n1", HOSTILE] }, { subject: "", connections: 1, nodes: ["n1"] }], next: null },
    "/v1/blocks": { blocks: [{ subject: HOSTILE, reason: HOSTILE, until: null, since: at(5), by: HOSTILE }], next: null },
    "/v1/revocations": { revocations: [{ id: HOSTILE, subject: HOSTILE, token: HOSTILE, issued_before: at(5), reason: HOSTILE, until: null, since: at(5), by: HOSTILE }], next: null },
    "/v1/policies": policies,
    "/v1/policies/versions": { versions: [{ version: "1-7", time: at(60), by: HOSTILE, bytes: 99 }, { version: "1-6", time: at(90), by: "ada", bytes: 80 }], next: null },
    "/v1/limits": { limits: {}, effective: { connections: 50_000, [HOSTILE]: HOSTILE }, live: ["connections"], version: "1-2", by: "", time: null },
    "/v1/keys": { keys: [{ name: HOSTILE, role: "operator", begins: "bongsu_key_Gx3k", made: at(99), by: HOSTILE, expires: null, used: null }] },
    "/v1/webhooks": { webhooks: [{ name: HOSTILE, url: "https://hook.example/", topics: [TOPIC], dead_letters: 3, dead_letter_topic: "$dead/x" }] },
    "/v1/audit": { records: [{ time: at(9), actor: HOSTILE, role: "admin", address: "127.0.0.1", action: "policies.replace", target: HOSTILE, reason: HOSTILE, detail: { before: HOSTILE }, failed: "conflict" }], next: null },
    "/v1/closes": { closes: [{ ...connection(1), ended: at(9), code: 4202, reason: "slow_reader", text: HOSTILE, silent_ms: 1200, stuck_ms: 60_000, last_error: { code: "denied", text: HOSTILE } }], next: null },
  };
  if (path in whole) return whole[path];
  const [kind, name, part] = path.split("/").slice(2).map(decodeURIComponent);
  if (kind === "topics" && part === "messages") return { messages: names(40, (i) => message(40 - i)), first: { epoch: 1, offset: 1 }, head: { epoch: 1, offset: 40 }, looked_at: 40, next: null };
  if (kind === "topics" && part === undefined) return topic(name);
  if (kind === "presence") return { topic: name, members: [{ session: "n1-1", subject: HOSTILE, since: at(9), info_bytes: 42 }], total: 300 };
  if (kind === "connections") return { ...connection(1), blocked: true, requests_in_flight: 0, filters: [{ filter: HOSTILE, active: true }], topics: [{ topic: TOPIC, position: { epoch: 1, offset: 7 }, head: { epoch: 1, offset: 9 }, lag: 2 }], topics_total: 1200, last_error: { code: "denied", text: HOSTILE } };
  if (kind === "users") return { subject: name, connections: 2, nodes: [{ node: HOSTILE, connections: 2 }], missing: ["n4"] };
  if (kind === "blocks") return { subject: name, reason: HOSTILE, until: null, since: at(5), by: HOSTILE };
  if (kind === "policies") return policies;
  if (kind === "webhooks" && part === "deliveries") return { deliveries: names(6, delivery) };
  if (kind === "webhooks") return { name, url: "https://hook.example/", topics: [TOPIC], dead_letters: 3, dead_letter_topic: "$dead/x" };
  return undefined;
}

const WRITTEN = {
  "POST /v1/policies/validate": { valid: true },
  "POST /v1/policies/preview": { filter: HOSTILE, topics: 1, messages: 12, subscribers: 3, first: [{ topic: TOPIC, messages: 12, policy: HOSTILE, durable: true }], complete: false, missing: [HOSTILE] },
  "POST /v1/tokens/check": { valid: true, text: HOSTILE, grants: { subject: HOSTILE, issuer: null, subscribe: [HOSTILE] }, allowed: false },
  "POST /v1/tokens": { token: HOSTILE, id: HOSTILE, issuer: HOSTILE, subject: HOSTILE, expires_at: at(-900) },
};

const stream = (events) => ({ status: 200, contentType: "text/event-stream", body: events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("") });

/** Answers what the console asks on a page. `change(operation, request)` may answer differently; what it returns is fulfilled. */
export async function answer(page, change = () => undefined) {
  await page.route(/\/v1\//, async (route) => {
    const request = route.request();
    const { pathname } = new URL(request.url());
    const operation = `${request.method()} ${pathname}`;
    const other = await change(operation, request);
    if (other) return route.fulfill(other);
    if (pathname.endsWith("/tail")) return route.fulfill(stream(names(5, (i) => ({ delivery: { ...message(40), epoch: 1, offset: 41 + i } }))));
    if (pathname === "/v1/trace") return route.fulfill(stream(names(5, () => ({ time: at(0), node: "n1", session: HOSTILE, subject: HOSTILE, what: "refused", frame: HOSTILE, bytes: 42, topics: [HOSTILE], code: "denied", text: HOSTILE, [HOSTILE]: HOSTILE }))));
    const found = request.method() === "GET" ? read(pathname) : (WRITTEN[operation] ?? {});
    if (found === undefined) return route.fulfill(problem(404, "not_found", "there is no such thing"));
    return route.fulfill({ status: 200, headers: { etag: '"1-7"' }, json: found });
  });
}

export const problem = (status, code, detail, errors) => ({ status, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: "", status, code, detail, errors }) });

export const as = (role) => (operation) => (operation === "GET /v1/whoami" ? { status: 200, json: { name: "ada", role, address: "127.0.0.1" } } : undefined);

/** Every page that there is: where it is. */
export const PAGES = {
  overview: [["overview"]],
  topics: [["topics"]],
  messages: [["topics", TOPIC]],
  tail: [["topics", TOPIC], { view: "tail" }],
  publish: [["topics", TOPIC], { view: "publish" }],
  subscribers: [["topics", TOPIC], { view: "subscribers" }],
  presence: [["topics", TOPIC], { view: "presence" }],
  whole: [["topics", TOPIC], { view: "whole" }],
  connections: [["connections"]],
  connection: [["connections", "n1-1"]],
  users: [["users"]],
  user: [["users", HOSTILE]],
  policies: [["policies"]],
  limits: [["limits"]],
  tokens: [["tokens"]],
  keys: [["keys"]],
  webhooks: [["webhooks"]],
  webhook: [["webhooks", HOSTILE]],
  audit: [["audit"]],
  closes: [["closes"]],
  trace: [["trace"], { subject: HOSTILE }],
  nowhere: [["nowhere"]],
};
