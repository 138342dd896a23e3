// One process that keeps everything in memory and sends every message to all other connections.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], pingInterval: 3_600_000, perMessageDeflate: false });
io.on("connection", (socket) => {
  socket.on("message", (text) => socket.broadcast.emit("message", text));
  socket.on("ask", (text) => socket.emit("message", text));
});
http.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${http.address().port}`));
