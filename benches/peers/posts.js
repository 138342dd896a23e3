// Calls PostToConnection through the SDK with 16 posts in flight. Prints the number of posts, the seconds and the CPU seconds.
"use strict";

const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");

const client = new ApiGatewayManagementApiClient({
  region: "us-east-1",
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
  endpoint: process.argv[2],
});
const Data = "x".repeat(200);
const post = () => client.send(new PostToConnectionCommand({ ConnectionId: "R1kmxc2VNjMCFIA=", Data }));
const run = async (posts) => {
  let left = posts;
  const one = async () => {
    while (left-- > 0) await post();
  };
  await Promise.all(Array.from({ length: 16 }, one));
};
(async () => {
  await run(200);
  const [posts, begun, cpu] = [Number(process.argv[3]), process.hrtime.bigint(), process.cpuUsage()];
  await run(posts);
  const { user, system } = process.cpuUsage(cpu);
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  console.log(`posted ${posts} ${seconds} ${(user + system) / 1e6}`);
  process.exit(0);
})();
