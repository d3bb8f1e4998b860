// Nothing but what a browser has: EventSource to read, fetch to publish. EventSource connects again by itself, and says then what it saw last.

import { enter } from "./room.js";

enter(({ broker, topics, show }) => {
  let seen = "last:50";
  read();

  function read() {
    const url = new URL("v1/events", broker);
    for (const topic of Object.values(topics)) url.searchParams.append("topic", topic);
    url.searchParams.set("from", seen);
    const source = new EventSource(url);
    source.onopen = () => show.state("open");
    source.onmessage = ({ data, lastEventId }) => {
      const { delivery } = JSON.parse(data);
      seen = lastEventId;
      if (delivery.topic === topics.messages) show.message(delivery);
      else show.who(delivery.data.here);
    };
    source.addEventListener("gap", () => show.note("some messages are no longer kept"));
    source.addEventListener("reset", () => show.note("the room begins anew"));
    source.onerror = () => {
      show.state("waiting");
      // Some browsers give up where nobody listens.
      if (source.readyState === EventSource.CLOSED) setTimeout(read, 2000);
    };
  }

  return async (data, id) => {
    const body = JSON.stringify({ topic: topics.messages, data, id });
    for (let pause = 500; ; pause = Math.min(2 * pause, 10_000)) {
      const answer = await fetch(new URL("v1/publish", broker), { method: "POST", body }).catch(() => undefined);
      if (answer?.ok) return;
      // 429 and 5xx pass. So does a broker that does not answer.
      if (answer && answer.status !== 429 && answer.status < 500) throw new Error((await answer.json()).detail);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  };
});
