// The chat of AWS's own samples. It keeps connections in a table. For each message it scans the table and posts to each connection.
"use strict";

const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DeleteCommand, DynamoDBDocumentClient, PutCommand, ScanCommand } = require("@aws-sdk/lib-dynamodb");
const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");

const region = process.env.AWS_REGION || "us-east-1";
const credentials = { accessKeyId: "local", secretAccessKey: "local" };
const table = DynamoDBDocumentClient.from(
  new DynamoDBClient({ region, credentials, endpoint: process.env.DYNAMODB_URL }),
);
const TableName = process.env.TABLE_NAME;
const management = new ApiGatewayManagementApiClient({ region, credentials, endpoint: process.env.MANAGEMENT_URL });

exports.authorize = async (event) => {
  if (!event.headers || !event.headers["x-token"]) throw new Error("Unauthorized");
  return {
    principalId: "somebody",
    policyDocument: {
      Version: "2012-10-17",
      Statement: [{ Action: "execute-api:Invoke", Effect: "Allow", Resource: event.methodArn }],
    },
  };
};

exports.connect = async (event) => {
  const { connectionId } = event.requestContext;
  await table.send(new PutCommand({ TableName, Item: { connectionId } }));
  return { statusCode: 200 };
};

exports.disconnect = async (event) => {
  const { connectionId } = event.requestContext;
  await table.send(new DeleteCommand({ TableName, Key: { connectionId } }));
  return { statusCode: 200 };
};

exports.message = async (event) => {
  const { connectionId } = event.requestContext;
  const { action, data } = JSON.parse(event.body);
  const post = async (id) => {
    try {
      await management.send(new PostToConnectionCommand({ ConnectionId: id, Data: data }));
    } catch (error) {
      if (error.$metadata?.httpStatusCode !== 410) throw error;
      await table.send(new DeleteCommand({ TableName, Key: { connectionId: id } }));
    }
  };
  if (action === "ping") {
    await post(connectionId);
  } else {
    const { Items } = await table.send(new ScanCommand({ TableName, ProjectionExpression: "connectionId" }));
    await Promise.all(Items.map((item) => post(item.connectionId)));
  }
  return { statusCode: 200 };
};
