// A wire between the browser and the broker that can be cut: a TCP proxy on a free port of loopback.

import { connect, createServer } from "node:net";

export class Proxy {
  #server;
  #sockets = new Set();
  #isCut = false;
  /** `127.0.0.1:PORT`. */
  address;

  static async start(target) {
    const proxy = new Proxy();
    const port = Number(target.split(":")[1]);
    proxy.#server = createServer((near) => proxy.#join(near, port));
    await new Promise((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    proxy.address = `127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  /** Breaks every connection at once; new ones break as well, until it is mended. */
  cut() {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  mend() {
    this.#isCut = false;
  }

  async stop() {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near, port) {
    near.on("error", () => {});
    if (this.#isCut) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      this.#sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }
}
