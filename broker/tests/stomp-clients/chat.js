// One client of stompjs 7, as tests want it: what it was sent stands in lists.

const PATIENCE_MS = 60_000;

/** Fails where something takes longer than anything does on a busy machine. */
export async function inTime(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come in time`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Messages in the order in which they came, for whoever waits for the next. */
export class Inbox {
  #messages = [];
  #waiting = [];

  put(message) {
    const next = this.#waiting.shift();
    if (next) next(message);
    else this.#messages.push(message);
  }

  next() {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return inTime(new Promise((resolve) => this.#waiting.push(resolve)), "a message");
  }
}

/** Waits until a client of stompjs 7 is connected; `options` are its own. */
export function connect(Client, options) {
  const client = new Client({ reconnectDelay: 0, ...options });
  const connected = new Promise((resolve, reject) => {
    client.onConnect = (frame) => resolve({ client, connected: frame });
    client.onStompError = (frame) => reject(new Error(`${frame.headers.message}: ${frame.body}`));
    client.onWebSocketClose = (event) => reject(new Error(`closed with ${event.code}`));
  });
  client.activate();
  return inTime(connected, "CONNECTED");
}

/** Does something whose frame asks for a receipt, and waits for that. */
let receipts = 0;
export function withReceipt(client, act) {
  const receipt = `receipt-${(receipts += 1)}`;
  const done = new Promise((resolve) => client.watchForReceipt(receipt, resolve));
  act({ receipt });
  return inTime(done, "a receipt");
}

export function publish(client, destination, body, headers = {}) {
  return withReceipt(client, (receipt) => client.publish({ destination, body, headers: { ...headers, ...receipt } }));
}

export async function subscribe(client, destination, headers = {}) {
  const inbox = new Inbox();
  let subscription;
  await withReceipt(client, (receipt) => {
    subscription = client.subscribe(destination, (message) => inbox.put(message), { ...headers, ...receipt });
  });
  return { inbox, subscription };
}
