// The model behind real sockets: for tests over a network, and to look at the page without a broker:
//
//   npm run page        prints the address

import { createServer, type Server } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer, type WebSocket } from "ws";
import { ModelBroker } from "./model.js";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

export class ModelServer {
  readonly broker = new ModelBroker();
  readonly sockets = new Set<WebSocket>();
  readonly #http: Server;

  /** `assets` is a folder to serve files from. */
  constructor(assets?: string) {
    this.broker.clock = Date.now;
    this.#http = createServer((request, response) => {
      const name = new URL(request.url ?? "/", "http://x").pathname.slice(1) || "index.html";
      const type = TYPES[extname(name)];
      if (assets === undefined || type === undefined || !/^[a-z]+\.[a-z]+$/.test(name)) {
        response.writeHead(404).end();
        return;
      }
      readFile(join(assets, name)).then(
        (content) => response.writeHead(200, { "content-type": type }).end(content),
        () => response.writeHead(404).end(),
      );
    });
    new WebSocketServer({ server: this.#http, path: "/v1/ws" }).on("connection", (socket) => this.#serve(socket));
  }

  /** Listens on loopback, on a free port by default; returns `127.0.0.1:PORT`. */
  async listen(port = 0): Promise<string> {
    await new Promise<void>((resolve) => this.#http.listen(port, "127.0.0.1", resolve));
    const address = this.#http.address();
    return `127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  /** Breaks every connection, without a goodbye. */
  cutAll(): void {
    for (const socket of this.sockets) socket.terminate();
  }

  async close(): Promise<void> {
    this.cutAll();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  #serve(socket: WebSocket): void {
    const session = this.broker.connect();
    this.sockets.add(socket);
    const flush = (): void => {
      for (const each of this.broker.sessions) {
        each.readAll();
        const events = each.outgoing.splice(0);
        if (events.length > 0) this.#wires.get(each)?.send(JSON.stringify(events));
      }
    };
    this.#wires.set(session, socket);
    flush();
    socket.on("message", (data) => {
      const frame: unknown = JSON.parse(String(data));
      for (const request of Array.isArray(frame) ? frame : [frame]) session.handle(request);
      flush();
    });
    socket.on("close", () => {
      session.end();
      this.sockets.delete(socket);
      flush();
    });
  }

  readonly #wires = new Map<object, WebSocket>();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const assets = join(process.cwd(), "..", "..", "broker", "assets");
  console.log(`http://${await new ModelServer(assets).listen()}/`);
}
