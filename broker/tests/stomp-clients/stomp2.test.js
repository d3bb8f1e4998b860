// The npm package stompjs 2.3.3, which most samples on the web still use, unmodified: in Node and, with sockjs-client, in a browser.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, it } from "node:test";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";
import { Broker } from "./broker.js";
import { Inbox, inTime } from "./chat.js";

const require = createRequire(import.meta.url);
const { Stomp } = require("stompjs/lib/stomp.js");
const SCRIPTS = ["stompjs/lib/stomp.js", "sockjs-client/dist/sockjs.js"].map((name) => require.resolve(name));
const STOMPJS_7 = new URL("./node_modules/@stomp/stompjs/bundles/stomp.umd.js", import.meta.url);

let broker;

before(async () => {
  broker = await Broker.start();
});

after(async () => {
  await broker.stop();
});

it("Stomp.over a WebSocket connects as guest, with the heart-beats of its time", async () => {
  // What the package puts there itself, where it finds its own WebSocket.
  Stomp.setInterval = (interval, act) => setInterval(act, interval);
  Stomp.clearInterval = clearInterval;
  const client = Stomp.over(new WebSocket(`ws://${broker.http}/stomp`, ["v10.stomp", "v11.stomp"]));
  client.debug = () => {};
  const frame = await inTime(
    new Promise((resolve, reject) => client.connect("guest", "guest", resolve, reject, "/")),
    "CONNECTED",
  );
  assert.equal(frame.headers.version, "1.1");
  assert.deepEqual([client.heartbeat.outgoing, client.heartbeat.incoming], [10_000, 10_000]);
  const inbox = new Inbox();
  client.subscribe("/queue/old", (message) => inbox.put(message), { ack: "client" });
  client.send("/queue/old", { priority: 9 }, "봉수");
  const message = await inbox.next();
  assert.deepEqual([message.body, message.headers.priority], ["봉수", "9"]);
  message.ack();
  await inTime(new Promise((resolve) => client.disconnect(resolve)), "the end");
});

for (const library of ["stompjs 2", "stompjs 7"]) {
  it(`${library} and sockjs-client chat in a browser, on every transport`, { timeout: 240_000 }, async () => {
    const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"];
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    const browser = await chromium.launch({ executablePath, args });
    try {
      const page = await browser.newPage();
      await page.goto(`http://${broker.http}/healthz`);
      for (const script of [...SCRIPTS.slice(library === "stompjs 2" ? 0 : 1), ...(library === "stompjs 7" ? [STOMPJS_7] : [])]) {
        await page.evaluate(await readFile(script, "utf8"));
      }
      for (const transport of ["websocket", "xhr-streaming", "xhr-polling", "plain"]) {
        const topic = `/topic/browser-${transport}-${library.replace(" ", "-")}`;
        const got = await page.evaluate(
          ({ transport, topic, old }) =>
            new Promise((resolve, reject) => {
              const socket = () =>
                transport === "plain"
                  ? new WebSocket(`ws://${location.host}/ws`)
                  : new window.SockJS("/ws", null, { transports: transport });
              const talk = (client, send) => {
                client.subscribe(topic, (message) => resolve([message.body, message.headers.destination]), { id: "a" });
                send();
              };
              if (old) {
                const client = window.Stomp.over(socket());
                client.debug = () => {};
                client.connect({}, () => talk(client, () => client.send(topic, {}, "hello")), reject);
                return;
              }
              const client = new window.StompJs.Client({ webSocketFactory: socket, reconnectDelay: 0 });
              client.onConnect = () => talk(client, () => client.publish({ destination: topic, body: "hello" }));
              client.onStompError = (frame) => reject(new Error(frame.body));
              client.activate();
            }),
          { transport, topic, old: library === "stompjs 2" },
        );
        assert.deepEqual(got, ["hello", topic], transport);
      }
    } finally {
      await browser.close();
    }
  });
}
