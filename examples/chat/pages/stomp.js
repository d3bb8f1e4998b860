// sockjs-client and stompjs as they come from npm: they connect again, and each MESSAGE says where to read on.

import { enter } from "./room.js";

/* global SockJS, StompJs */

enter(({ broker, topics, show }) => {
  /** Where the newest message was. */
  let seen;
  /** What the broker has not answered yet, by id: sent again on each new connection, and stored once. */
  const unanswered = new Map();

  const client = new StompJs.Client({
    webSocketFactory: () => new SockJS(new URL("stomp", broker).href),
    reconnectDelay: 500,
    maxReconnectDelay: 10_000,
    reconnectTimeMode: StompJs.ReconnectionTimeMode.EXPONENTIAL,
    onConnect() {
      show.state("open");
      const from = seen ? { offset: String(seen.offset + 1), epoch: String(seen.epoch) } : { rewind: "50" };
      client.subscribe(`/topic/${topics.messages}`, onMessage, from);
      client.subscribe(`/topic/${topics.who}`, ({ body }) => show.who(JSON.parse(body).here), { rewind: "1" });
      client.subscribe(`/topic/${topics.here}`, () => {});
      for (const id of unanswered.keys()) send(id);
    },
    onWebSocketClose: () => show.state("waiting"),
    onStompError({ headers }) {
      unanswered.get(headers["receipt-id"])?.reject(new Error(headers.message));
      unanswered.delete(headers["receipt-id"]);
      show.note(headers.message);
    },
  });
  client.activate();

  function onMessage({ headers, body }) {
    if (headers.lost) show.note(`${headers.lost} messages are no longer kept`);
    if (headers.reset) show.note("the room begins anew");
    seen = { offset: Number(headers.offset), epoch: Number(headers.epoch) };
    show.message({ offset: seen.offset, time: Number(headers.timestamp), data: JSON.parse(body) });
  }

  function send(id) {
    const { body, resolve } = unanswered.get(id);
    client.watchForReceipt(id, () => {
      unanswered.delete(id);
      resolve();
    });
    const headers = { "content-type": "application/json", "idempotency-key": id, receipt: id };
    client.publish({ destination: `/topic/${topics.messages}`, headers, body });
  }

  return (message, id) =>
    new Promise((resolve, reject) => {
      unanswered.set(id, { body: JSON.stringify(message), resolve, reject });
      if (client.connected) send(id);
    });
});
