// sockjs-node with its raw WebSocket endpoint. It sends every message to all connections.
"use strict";

const { createServer } = require("node:http");
const sockjs = require("sockjs");

const everybody = new Set();
const server = sockjs.createServer({ log: () => {} });
server.on("connection", (connection) => {
  everybody.add(connection);
  connection.on("data", (text) => {
    const to = text.startsWith("ping") ? [connection] : everybody;
    for (const other of to) other.write(text);
  });
  connection.on("close", () => everybody.delete(connection));
});
const http = createServer();
server.installHandlers(http, { prefix: "/messaging" });
http.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${http.address().port}`));
