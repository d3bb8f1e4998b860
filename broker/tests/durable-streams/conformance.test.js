// The suite that the protocol's authors run against their own server.

import { runConformanceTests } from "@durable-streams/server-conformance-tests";
import { afterAll, beforeAll, describe } from "vitest";

import { Server } from "./cluster.js";

describe("Durable Streams", () => {
  const options = { baseUrl: "" };
  let broker;

  beforeAll(async () => {
    broker = await Server.start();
    options.baseUrl = broker.url;
  });
  afterAll(() => broker.stop());

  runConformanceTests(options);
});
