"""Sets up the chat in a running ministack: its table, its functions and its WebSocket API. Prints the API's URL."""

import io
import os
import sys
import zipfile

import botocore.session

port, bundle = sys.argv[1:]
endpoint = f"http://127.0.0.1:{port}"
session = botocore.session.get_session()
session.set_credentials("test", "test")


def client(service):
    return session.create_client(service, region_name="us-east-1", endpoint_url=endpoint)


client("dynamodb").create_table(
    TableName="Connections",
    AttributeDefinitions=[{"AttributeName": "connectionId", "AttributeType": "S"}],
    KeySchema=[{"AttributeName": "connectionId", "KeyType": "HASH"}],
    BillingMode="PAY_PER_REQUEST",
)
gateway = client("apigatewayv2")
api = gateway.create_api(
    Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
)["ApiId"]

archive = io.BytesIO()
with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
    file.write(bundle, "chat.js")
functions = client("lambda")
variables = {
    "DYNAMODB_URL": endpoint,
    "MANAGEMENT_URL": f"{endpoint}/_aws/execute-api/{api}/prod",
    "TABLE_NAME": "Connections",
}


def function(name):
    arn = functions.create_function(
        FunctionName=name,
        Runtime="nodejs20.x",
        Role="arn:aws:iam::000000000000:role/chat",
        Handler=f"chat.{name}",
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": variables},
        MemorySize=256,
        Timeout=29,
    )["FunctionArn"]
    return f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"


authorizer = gateway.create_authorizer(
    ApiId=api,
    Name="authorize",
    AuthorizerType="REQUEST",
    AuthorizerUri=function("authorize"),
    IdentitySource=["route.request.header.x-token"],
)["AuthorizerId"]
for route, name in [("$connect", "connect"), ("$disconnect", "disconnect"), ("$default", "message")]:
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function(name)
    )["IntegrationId"]
    more = {"AuthorizationType": "CUSTOM", "AuthorizerId": authorizer} if route == "$connect" else {}
    gateway.create_route(ApiId=api, RouteKey=route, Target=f"integrations/{integration}", **more)
gateway.create_stage(ApiId=api, StageName="prod", AutoDeploy=True)
print(f"listening on 127.0.0.1:{port}/_aws/execute-api/{api}/prod", flush=True)
