// The npm package @stomp/stompjs 7, unmodified, over WebSocket, raw TCP and SockJS.
//
//   BONGSU_BIN=../../../target/debug/bongsu npm test

import assert from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import { after, before, describe, it } from "node:test";
import { Client, Versions } from "@stomp/stompjs";
import SockJS from "sockjs-client";
import { WebSocket } from "ws";
import { Broker } from "./broker.js";
import { Inbox, connect, inTime, publish, subscribe, withReceipt } from "./chat.js";

let broker;

before(async () => {
  broker = await Broker.start();
});

after(async () => {
  await broker.stop();
});

/** The library's own wrapper for a TCP socket, as its documentation shows it. */
class TcpWrapper {
  constructor(host, port) {
    this.readyState = 0;
    this.socket = connectTcp({ host, port }, () => {
      this.readyState = 1;
      this.onopen();
    });
    this.socket.on("data", (data) => this.onmessage({ data: new Uint8Array(data) }));
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.readyState = 3;
      this.onclose({ code: 1000, reason: "", wasClean: true });
    });
  }
  send(data) {
    this.socket.write(data);
  }
  close() {
    this.socket.end();
  }
}

const carriers = {
  WebSocket: (offers) => ({ webSocketFactory: () => new WebSocket(`ws://${broker.http}/stomp`, offers) }),
  "WebSocket at /ws": (offers) => ({ webSocketFactory: () => new WebSocket(`ws://${broker.http}/ws`, offers) }),
  TCP: () => ({
    webSocketFactory: () => new TcpWrapper(...broker.stomp.split(":")),
    forceBinaryWSFrames: true,
  }),
  SockJS: () => ({ webSocketFactory: () => new SockJS(`http://${broker.http}/stomp`) }),
  "SockJS by polling": () => ({
    webSocketFactory: () => new SockJS(`http://${broker.http}/ws`, null, { transports: "xhr-polling" }),
  }),
};
const versions = { 1.0: ["v10.stomp"], 1.1: ["v11.stomp"], 1.2: ["v12.stomp"] };

for (const [name, options] of Object.entries(carriers)) {
  for (const [version, offers] of Object.entries(versions)) {
    it(`${name}, STOMP ${Number(version).toFixed(1)}: subscribes, publishes, confirms`, async () => {
      const wanted = Number(version).toFixed(1);
      const { client, connected } = await connect(Client, {
        ...options(offers),
        stompVersions: new Versions([wanted]),
      });
      assert.equal(connected.headers.version, wanted);
      assert.ok(connected.headers.session);
      const topic = `/topic/${name.replaceAll(/\W/g, "")}-${wanted.replace(".", "-")}`;
      const { inbox, subscription } = await subscribe(client, topic);
      const text = "봉수: one\ntwo\tthree";
      await publish(client, topic, text, { mood: wanted === "1.0" ? "plain" : "a:b\\c" });
      const message = await inbox.next();
      assert.equal(message.body, text);
      assert.equal(message.headers.destination, topic);
      assert.equal(message.headers.offset, "1");
      await withReceipt(client, (receipt) => subscription.unsubscribe(receipt));
      await publish(client, topic, "for nobody");
      const again = await subscribe(client, topic, { offset: "2", epoch: message.headers.epoch });
      assert.equal((await again.inbox.next()).body, "for nobody");
      await client.deactivate();
    });
  }
}

describe("over WebSocket", () => {
  const open = (options = {}) => connect(Client, { ...carriers.WebSocket(["v12.stomp"]), ...options });

  it("cuts large frames into messages and sends bytes", async () => {
    const { client } = await open({ splitLargeFrames: true, maxWebSocketChunkSize: 1024 });
    const { inbox } = await subscribe(client, "/topic/large");
    const text = "x".repeat(100_000);
    await publish(client, "/topic/large", text);
    assert.equal((await inbox.next()).body, text);
    const binaryBody = new Uint8Array([0, 255, 10, 0, 254]);
    client.publish({ destination: "/topic/large", binaryBody, headers: { "content-type": "application/octet-stream" } });
    assert.deepEqual((await inbox.next()).binaryBody, binaryBody);
    await client.deactivate();
  });

  it("keeps what a transaction sends together, or sends nothing of it", async () => {
    const { client } = await open();
    const { inbox } = await subscribe(client, "/topic/transaction");
    const aborted = client.begin();
    client.publish({ destination: "/topic/transaction", body: "never", headers: { transaction: aborted.id } });
    aborted.abort();
    const kept = client.begin();
    for (const body of ["one", "two"]) {
      client.publish({ destination: "/topic/transaction", body, headers: { transaction: kept.id } });
    }
    await publish(client, "/topic/transaction", "before");
    kept.commit();
    const bodies = [];
    for (let n = 0; n < 3; n += 1) bodies.push((await inbox.next()).body);
    assert.deepEqual(bodies, ["before", "one", "two"]);
    await client.deactivate();
  });

  it("says what is wrong and closes with the code for it", async () => {
    const { client } = await open();
    const refused = new Promise((resolve) => (client.onStompError = resolve));
    const closed = new Promise((resolve) => (client.onWebSocketClose = resolve));
    client.publish({ destination: "/nowhere", body: "" });
    assert.equal((await inTime(refused, "ERROR")).headers.message, "Unknown destination");
    assert.equal((await inTime(closed, "the close")).code, 1002);
    await client.deactivate();
  });

  it("sends heart-beats, and drops a client that sends none", async () => {
    const { client, connected } = await open({ heartbeatIncoming: 1000, heartbeatOutgoing: 1000 });
    assert.equal(connected.headers["heart-beat"], "1000,1000");
    const closed = new Promise((resolve) => (client.onWebSocketClose = resolve));
    // As the library's own test does it.
    client._stompHandler._pinger.stop();
    assert.ok(await inTime(closed, "the close"));
    await client.deactivate();
  });

  it("answers at a temporary queue", async () => {
    const [asker, answerer] = [(await open()).client, (await open()).client];
    const { inbox: questions } = await subscribe(answerer, "/topic/questions");
    const answers = new Inbox();
    asker.onUnhandledMessage = (message) => answers.put(message);
    asker.publish({ destination: "/topic/questions", body: "how far?", headers: { "reply-to": "/temp-queue/mine" } });
    const question = await questions.next();
    answerer.publish({ destination: question.headers["reply-to"], body: "seven hills" });
    const answer = await answers.next();
    assert.equal(answer.body, "seven hills");
    assert.equal(answer.headers.subscription, "/temp-queue/mine");
    await asker.deactivate();
    await answerer.deactivate();
  });

  it("shares a queue among consumers, and gives back what one did not acknowledge", async () => {
    const [one, two] = [(await open()).client, (await open()).client];
    const headers = { ack: "client-individual", "prefetch-count": "1" };
    const first = await subscribe(one, "/queue/work", headers);
    const second = await subscribe(two, "/queue/work", headers);
    for (const body of ["a", "b"]) await publish(one, "/queue/work", body);
    const [mine, theirs] = [await first.inbox.next(), await second.inbox.next()];
    assert.deepEqual([mine.body, theirs.body].sort(), ["a", "b"]);
    assert.equal(mine.headers.redelivered, "false");
    await withReceipt(one, (receipt) => mine.ack(receipt));
    theirs.nack();
    // Whoever gets it again knows that it was tried.
    const again = await Promise.race([first.inbox.next(), second.inbox.next()]);
    assert.deepEqual([again.body, again.headers.redelivered], [theirs.body, "true"]);
    await one.deactivate();
    await two.deactivate();
  });

  it("keeps a durable subscription while nobody reads", async () => {
    const durable = { id: "mine", durable: "true", ack: "client-individual" };
    const away = (await open()).client;
    await subscribe(away, "/topic/durable", durable);
    await away.deactivate();
    const { client } = await open();
    await publish(client, "/topic/durable", "meanwhile");
    const { inbox } = await subscribe(client, "/topic/durable", durable);
    const message = await inbox.next();
    assert.equal(message.body, "meanwhile");
    await withReceipt(client, (receipt) => message.ack(receipt));
    await client.deactivate();
  });

  it("resumes after the broker was killed, and misses nothing", async () => {
    const { client: writer } = await open();
    const inbox = new Inbox();
    let place;
    const { client: reader } = await open({ reconnectDelay: 50 });
    const read = () => {
      const from = place ? { offset: String(place.offset + 1), epoch: place.epoch } : { offset: "first" };
      reader.subscribe("/topic/killed", (message) => {
        place = { offset: Number(message.headers.offset), epoch: message.headers.epoch };
        inbox.put(message.body);
      }, from);
    };
    reader.onConnect = read;
    read();
    await publish(writer, "/topic/killed", "1");
    assert.equal(await inbox.next(), "1");
    await writer.deactivate();
    reader.onWebSocketClose = () => {};
    await broker.killAndRestart();
    const { client: later } = await open();
    for (const body of ["2", "3"]) await publish(later, "/topic/killed", body);
    assert.deepEqual([await inbox.next(), await inbox.next()], ["2", "3"]);
    await later.deactivate();
    await reader.deactivate();
  });
});
