// The conversation with the model of a broker, over real sockets.

import { after, before } from "node:test";
import { conversation } from "../support/conversation.js";
import { ModelServer } from "../support/server.js";

let server: ModelServer;
let address: string;

before(async () => {
  server = new ModelServer();
  address = await server.listen();
});

after(() => server.close());

conversation("over sockets, with the model", () => `ws://${address}/v1/ws`);
