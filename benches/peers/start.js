// A minimal Node function: it creates the SDK clients, then calls the Runtime API's `next`.
"use strict";

require("./chat.js");
const { request } = require("node:http");
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
request({ host, port, path: "/2018-06-01/runtime/invocation/next" }, (answer) => answer.resume()).end();
