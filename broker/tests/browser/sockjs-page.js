// What a page with sockjs-client does in tests. Evaluated in the page, so it has nothing but its argument.

/** A page that is connected, reads a topic, and comes back where it was. */
export function chat([url, transport, topic]) {
  const state = { got: [], opened: [], closed: [], next: 1, waiting: new Map() };
  window.state = state;
  const ask = (command, body) => {
    const id = state.next++;
    state.socket.send(JSON.stringify({ id, [command]: body }));
    return new Promise((resolve) => state.waiting.set(id, resolve));
  };
  state.publish = (data) => ask("publish", { messages: [{ topic, data }] });
  state.connect = () => {
    state.next = 1;
    state.socket = new window.SockJS(url, null, { transports: [transport] });
    state.socket.onopen = async () => {
      state.opened.push(state.socket.transport);
      const from = state.position ? { after: state.position } : "latest";
      await ask("subscribe", { subscriptions: [{ filter: topic, from }] });
      state.ready = true;
    };
    state.socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.welcome) state.node = event.welcome.node;
      if (event.reply) state.waiting.get(event.reply.id)?.(event.reply);
      if (!event.delivery) return;
      state.got.push(event.delivery.data);
      state.position = { epoch: event.delivery.epoch, offset: event.delivery.offset };
    };
    state.socket.onclose = ({ code, reason }) => {
      state.ready = false;
      state.closed.push([code, reason]);
      setTimeout(state.connect, 50);
    };
  };
  state.connect();
}
