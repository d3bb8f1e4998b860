// Three nodes of one cluster behind a proxy that sends each request to another of them.
//
//   REDIS_URL=redis://… POSTGRES_URL=postgres://… BONGSU_BIN=../../../target/debug/bongsu npm test

import { once } from "node:events";
import { createServer, request } from "node:http";

import { Broker } from "./broker.js";

class Cluster {
  #nodes;
  #next = 0;
  #proxy;

  get url() {
    return `http://127.0.0.1:${this.#proxy.address().port}`;
  }

  static async start() {
    const cluster = new Cluster();
    const servers = [`redis.url=${process.env.REDIS_URL}`, `postgres.url=${process.env.POSTGRES_URL}`];
    // The suite wants each node to know at once what another has acknowledged.
    const shared = [...servers, "http.streams_ask_store=true"];
    const names = ["one", "two", "three"].map((name) => `node.name=${name}-${process.pid}-${Date.now()}`);
    cluster.#nodes = await Promise.all(names.map((name) => Broker.start(...shared, name)));
    cluster.#proxy = createServer((asked, answer) => cluster.#forward(asked, answer)).listen(0, "127.0.0.1");
    await once(cluster.#proxy, "listening");
    return cluster;
  }

  /** Kills one node without a word and starts it again. */
  async killAndRestart() {
    await this.#nodes[0].killAndRestart();
  }

  async stop() {
    this.#proxy.closeAllConnections();
    this.#proxy.close();
    await Promise.all(this.#nodes.map((node) => node.stop()));
  }

  #forward(asked, answer) {
    const node = this.#nodes[this.#next++ % this.#nodes.length];
    const { hostname, port } = new URL(node.url);
    const forwarded = request({ hostname, port, method: asked.method, path: asked.url, headers: asked.headers });
    forwarded.on("response", (response) => {
      answer.writeHead(response.statusCode, response.rawHeaders);
      answer.flushHeaders();
      response.on("error", () => answer.destroy());
      response.pipe(answer);
    });
    forwarded.on("error", () => answer.destroy());
    answer.on("close", () => forwarded.destroy());
    asked.pipe(forwarded);
  }
}

/** What the tests run against: one node, or a cluster where its servers are named. */
export const Server = process.env.REDIS_URL ? Cluster : Broker;
