// Bongsu's own client, as the broker serves it: it connects again, reads on where it was and sends again by itself.

import { enter } from "./room.js";

enter(async ({ broker, topics, show }) => {
  const { Client } = await import(new URL("bongsu.js", broker));
  const client = new Client(new URL("v1/ws", broker));
  client.on("state", ({ name, error }) => show.state(name, name === "closed" ? error?.message : undefined));

  const messages = client.subscribe(topics.messages, { from: { last: 50 } });
  messages.on("lost", ({ count }) => show.note(`${count} messages are no longer kept`));
  messages.on("reset", () => show.note("the room begins anew"));
  each(messages, show.message);
  each(client.subscribe(topics.who, { from: { last: 1 } }), ({ data }) => show.who(data.here));
  client.subscribe(topics.here);

  return (message, id) => client.publish(topics.messages, message, { id, timeoutMs: 600_000 });
});

async function each(subscription, show) {
  for await (const message of subscription) show(message);
}
