#!/usr/bin/env python3
"""Deploys template.yaml through CloudFormation on an emulator of AWS, updates and deletes the stack, and checks that its
functions need each of their rights.

    stack.py create ZIPS READY   creates the stack from the zips of a folder, and writes its URLs to the file READY
    stack.py statements READY COMMAND…
                                 removes each statement of each function's policy in turn and runs the command, or the
                                 function's scenario in rights.py, which has to fail. Before that, it runs them with all
                                 statements, when they have to succeed
    stack.py update ZIPS         updates the stack in place with another memory size and the edge, a nested stack. The ids
                                 of its resources must not change
    stack.py delete              deletes the stack. Only its tables remain

AWS_ENDPOINT_URL names the emulator. Differences to an account, because the emulator lacks a feature:

- alarms with metric math are left out
- SAM writes the HTTP API as an OpenAPI document. It is replaced by a route and its integration
- an authorizer without an identity source gets an empty list, instead of the Authorization header
- @connections and the stage are at the emulator's own paths, so CONNECTIONS_ENDPOINT and DOORBELL_URL are those paths
- its CloudFront supports no WebSockets and routes by host only. The tests therefore run with Edge off and use the URL of
  the SockJS function. The update adds the edge
- a reference to a secret returns its name instead of its ARN, so the edge is given the ARN. The emulator does not
  resolve secrets in nested stacks either, so an API call gives the distribution the secret's text
- it ignores the times to live in a template, so an API call enables them
"""

import copy
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import boto3
import rights
from websockets.exceptions import WebSocketException

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import expanded  # noqa: E402  pylint: disable=wrong-import-position

# Statements whose absence no client notices, each with the reason. tests/tests/rights.rs checks that they are used.
NOT_HERE = {
    ("DisconnectFunctionRole", "Tokens"): "the remaining row is deleted when the token ends",
    ("WorkerFunctionRole", "Tokens"): "it only cleans up after connections that closed at once",
    ("SockjsFunctionRole", "Connections"): "the worker posts what the function cannot",
}

STACK = "messaging"
BUCKET = "messaging-code"
EDGE = "infra/edge/template.yaml"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
WEBSOCKETS = ENDPOINT.replace("http", "ws", 1)
TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "template.yaml")
# The emulator's account has a concurrency of 60, out of which nothing can be reserved.
PARAMETERS = {
    "Architecture": "x86_64",
    "DeletionProtection": "false",
    "Edge": "off",
    "AllowedOrigins": "*",
    "SockjsConcurrency": "0",
}


def client(service):
    """Returns a client of the emulator. Keys that belong to no function have an administrator's rights there."""
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def document(more):
    """Expands the template, adapts it to the emulator and puts it into the bucket, because it is too long for a request.

    Returns its URL.
    """
    template = expanded.read(TEMPLATE)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            binary = resource["Metadata"]["BuildProperties"]["Binary"]
            resource["Properties"]["CodeUri"] = f"s3://{BUCKET}/{binary}.zip"
    stage = "/_aws/execute-api/${WebSocketApi}/${StageName}"
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    variables["CONNECTIONS_ENDPOINT"] = {"Fn::Sub": ENDPOINT + stage}
    sockjs = template["Resources"]["SockjsFunction"]["Properties"]["Environment"]["Variables"]
    sockjs["DOORBELL_URL"] = {"Fn::Sub": WEBSOCKETS + stage}
    result = expanded.expand(template, {**PARAMETERS, **more})
    resources = result["Resources"]
    for name, it in list(resources.items()):
        if it["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in it["Properties"]:
            print(f"left out: {name}, an alarm with metric math")
            del resources[name]
        if it["Type"] == "AWS::ApiGatewayV2::Api" and "Body" in it["Properties"]:
            routes(resources, name, it["Properties"])
        if it["Type"] == "AWS::ApiGatewayV2::Authorizer":
            it["Properties"].setdefault("IdentitySource", [])
    stack = resources["EdgeStack"]["Properties"]
    stack["Parameters"]["OriginSecret"] = {"Fn::GetAtt": ["OriginSecret", "Id"]}
    with open(os.path.join(os.path.dirname(TEMPLATE), EDGE), "rb") as edge:
        stack["TemplateURL"] = put_template("edge.yaml", edge.read())
    return put_template("template.json", json.dumps(result).encode())


def put_template(key, body):
    """Puts a template into the bucket and returns its URL."""
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"{ENDPOINT}/{BUCKET}/{key}"


def routes(resources, name, api):
    """Replaces an API's OpenAPI document by the equivalent resources."""
    body = api.pop("Body")
    api.update({"Name": {"Ref": "AWS::StackName"}, "ProtocolType": "HTTP"})
    for number, (path, methods) in enumerate(body["paths"].items()):
        integration = methods["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]
        resources[f"{name}Integration{number}"] = {
            "Type": "AWS::ApiGatewayV2::Integration",
            "Properties": {
                "ApiId": {"Ref": name},
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": integration["uri"],
                "PayloadFormatVersion": integration["payloadFormatVersion"],
            },
        }
        resources[f"{name}Route{number}"] = {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {
                "ApiId": {"Ref": name},
                "RouteKey": f"ANY {path}",
                "AuthorizationType": "AWS_IAM",
                "Target": {"Fn::Sub": f"integrations/${{{name}Integration{number}}}"},
            },
        }


def upload(zips):
    """Uploads the functions' code to the bucket that the template names."""
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for name in os.listdir(zips):
        if name.endswith(".zip"):
            s3.upload_file(os.path.join(zips, name), BUCKET, name)


def settled(cloudformation, wanted):
    """Waits until the stack's operation ends. Exits with the failed events unless its status is `wanted`.

    Returns the stack's outputs.
    """
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            break
        time.sleep(0.3)
    if stack["StackStatus"] != wanted:
        for event in cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]:
            if "FAILED" in event["ResourceStatus"]:
                print(event["LogicalResourceId"], event.get("ResourceStatusReason"))
        sys.exit(f"the stack is {stack['StackStatus']} instead of {wanted}")
    return {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}


def resources_of(kind):
    """Returns the physical ids of a resource type by their logical ids."""
    listed = client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in listed if it["ResourceType"] == kind}


def function_url_id():
    """Returns the first label of the host of the function's URL."""
    function = resources_of("AWS::Lambda::Function")["SockjsFunction"]
    url = client("lambda").get_function_url_config(FunctionName=function)["FunctionUrl"]
    return url.split("//")[1].split(".")[0]


def parameters(more):
    """Returns the parameters in CloudFormation's format."""
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in {**PARAMETERS, **more}.items()]


def create(zips, ready):
    """Creates the stack, enables the times to live and writes the URLs to the ready file."""
    upload(zips)
    cloudformation = client("cloudformation")
    begun = time.monotonic()
    cloudformation.create_stack(
        StackName=STACK, TemplateURL=document({}), Parameters=parameters({}), Capabilities=["CAPABILITY_IAM"]
    )
    outputs = settled(cloudformation, "CREATE_COMPLETE")
    print(f"created in {time.monotonic() - begun:.1f} s")
    dynamodb = client("dynamodb")
    for table in resources_of("AWS::DynamoDB::Table").values():
        dynamodb.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"AttributeName": "ttl", "Enabled": True}
        )
    ids = resources_of("AWS::ApiGatewayV2::Api")
    stage = outputs["WebSocketUrl"].rsplit("/", 1)[1]
    urls = {
        "websocket": f"{WEBSOCKETS}/_aws/execute-api/{ids['WebSocketApi']}/{stage}",
        "api": f"{ENDPOINT}/_aws/execute-api/{ids['HttpApi']}/v1",
        "sockjs": f"{ENDPOINT}/_aws/lambda-url/{function_url_id()}/messaging",
    }
    with open(ready, "w", encoding="utf-8") as file:
        json.dump(urls, file)
    print(json.dumps(urls))


def update(zips):
    """Updates the stack in place. Checks that the functions get the new memory size and that no id changes."""
    upload(zips)
    cloudformation = client("cloudformation")
    before = {kind: resources_of(kind) for kind in ("AWS::ApiGatewayV2::Api", "AWS::DynamoDB::Table")}
    more = {"MessageMemory": "384", "Edge": "on"}
    cloudformation.update_stack(
        StackName=STACK, TemplateURL=document(more), Parameters=parameters(more), Capabilities=["CAPABILITY_IAM"]
    )
    outputs = settled(cloudformation, "UPDATE_COMPLETE")
    for kind, ids in before.items():
        assert resources_of(kind) == ids, f"{kind} was replaced"
    function = resources_of("AWS::Lambda::Function")["MessageFunction"]
    memory = client("lambda").get_function_configuration(FunctionName=function)["MemorySize"]
    assert memory == 384, f"the function has {memory} MB"
    through_the_edge(outputs["SockjsUrl"])
    print("updated in place")


def through_the_edge(url):
    """Checks that the distribution answers or forwards requests, and that the function refuses requests that bypass it."""
    resolve_secret()
    edge, path = url.removeprefix("https://").split("/", 1)
    around = f"{ENDPOINT}/_aws/lambda-url/{function_url_id()}"
    for wanted, requested, through in (
        ((200, "Welcome to SockJS!\n"), f"{ENDPOINT}/{path}", edge),
        ((404, "There is nothing here.\n"), f"{ENDPOINT}/elsewhere", edge),
        ((401, "Unauthorized"), f"{ENDPOINT}/{path}/info", edge),
        ((403, "Forbidden\n"), f"{around}/{path}/info", None),
    ):
        found = answer(requested, through)
        assert found == wanted, f"{requested} through {through}: {found}"


def resolve_secret():
    """Resolves `{{resolve:secretsmanager:…}}` in the distribution's headers, as CloudFormation does on AWS."""
    cloudfront = client("cloudfront")
    (listed,) = cloudfront.list_distributions()["DistributionList"]["Items"]
    found = cloudfront.get_distribution_config(Id=listed["Id"])
    config = found["DistributionConfig"]
    for origin in config["Origins"]["Items"]:
        origin["CustomOriginConfig"].update(HTTPPort=80, HTTPSPort=443)
        for header in origin.get("CustomHeaders", {}).get("Items", []):
            reference = header["HeaderValue"].removeprefix("{{resolve:secretsmanager:").removesuffix(":SecretString}}")
            secret = client("secretsmanager").get_secret_value(SecretId=reference)
            header["HeaderValue"] = secret["SecretString"]
    cloudfront.update_distribution(Id=listed["Id"], IfMatch=found["ETag"], DistributionConfig=config)


def answer(url, edge=None):
    """Returns the status and body of an answer. With `edge`, the request goes through that distribution."""
    headers = {"Host": edge, "X-Forwarded-Proto": "https"} if edge else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def delete():
    """Deletes the stack. Checks that its tables remain, as the template says, and its functions do not."""
    tables = resources_of("AWS::DynamoDB::Table").values()
    functions = resources_of("AWS::Lambda::Function").values()
    cloudformation = client("cloudformation")
    cloudformation.delete_stack(StackName=STACK)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            stack = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]
        except cloudformation.exceptions.ClientError:
            break
        if stack["StackStatus"] == "DELETE_COMPLETE":
            break
        assert not stack["StackStatus"].endswith("FAILED"), stack
        time.sleep(0.3)
    kept = client("dynamodb").list_tables()["TableNames"]
    assert all(table in kept for table in tables), "a table was deleted with the stack"
    left = {it["FunctionName"] for it in client("lambda").list_functions()["Functions"]}
    assert not left.intersection(functions), "a function outlived the stack"
    print("deleted, tables retained")


def works(name, sid, command, urls):
    """Returns true if the scenario of a role's function succeeds."""
    try:
        if name.startswith("ExpireFunction"):
            rights.minute(urls, expire, leave_undone)
        elif name.startswith(("AuthorizerFunction", "ConnectFunction")) and sid == "Sessions":
            rights.doorbell(urls, hung)
        elif name.startswith("SockjsFunction") or sid == "Sessions":
            rights.polls(urls)
        else:
            return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except (rights.Missing, OSError, WebSocketException) as problem:
        print(f"  {problem}")
        return False
    return True


def expire():
    """Invokes the function `expire`. Fails if the run fails."""
    function = resources_of("AWS::Lambda::Function")["ExpireFunction"]
    answer = client("lambda").invoke(FunctionName=function)
    if "FunctionError" in answer:
        raise rights.Missing(f"a run fails: {answer['Payload'].read()}")


def leave_undone(domain):
    """Leaves the state of crashed functions: an event without a push, and sessions that are due for a check."""
    dynamodb = client("dynamodb")
    dynamodb.update_item(
        TableName=resources_of("AWS::DynamoDB::Table")["Channels"],
        Key={"channel": {"S": f"{domain}#d"}, "item": {"S": "head"}},
        UpdateExpression="SET undrained = :zero, sent = :zero REMOVE #lease",
        ExpressionAttributeNames={"#lease": "lease"},
        ExpressionAttributeValues={":zero": {"N": "0"}},
    )
    table, sessions = sessions_of(domain)
    for session in sessions:
        dynamodb.update_item(
            TableName=table,
            Key={key: session[key] for key in ("session", "item")},
            UpdateExpression="SET #due = :due",
            ExpressionAttributeNames={"#due": "due-minute"},
            ExpressionAttributeValues={":due": {"N": str(int(time.time()) // 60 - 1)}},
        )


def hung(domain):
    """Returns true if a session of the domain has a doorbell."""
    return any("doorbell" in session for session in sessions_of(domain)[1])


def sessions_of(domain):
    """Returns the name of the table of sessions, and the sessions of a domain."""
    table = resources_of("AWS::DynamoDB::Table")["Sessions"]
    items = client("dynamodb").scan(TableName=table)["Items"]
    return table, [it for it in items if it["domain"]["S"] == domain]


def statements(ready, command):
    """Removes each statement in turn and checks that the function's scenario fails without it."""
    iam = client("iam")
    with open(ready, encoding="utf-8") as file:
        urls = json.load(file)
    for name, sid in (
        ("MessageFunctionRole", ""),
        ("SockjsFunctionRole", ""),
        ("ConnectFunctionRole", "Sessions"),
        ("ExpireFunctionRole", ""),
    ):
        if not works(name, sid, command, urls):
            sys.exit(f"the scenario of {name} fails with all statements")
    begun, unnoticed, tried = time.monotonic(), [], 0
    for name, role in sorted(resources_of("AWS::IAM::Role").items()):
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            whole = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            for sid in [it["Sid"] for it in whole["Statement"] if it.get("Sid")]:
                if (name, sid) in NOT_HERE:
                    print(f"not tried: {name} without {sid}, {NOT_HERE[name, sid]}")
                    continue
                rest = copy.deepcopy(whole)
                rest["Statement"] = [it for it in whole["Statement"] if it.get("Sid") != sid]
                put(iam, role, policy, rest)
                noticed = not works(name, sid, command, urls)
                put(iam, role, policy, whole)
                tried += 1
                print(f"{'noticed' if noticed else 'UNNOTICED'}: {name} without {sid}", flush=True)
                if not noticed:
                    unnoticed.append(f"{name} without {sid}")
    if unnoticed:
        sys.exit(f"no scenario fails {unnoticed}")
    print(f"each of {tried} statements is needed ({time.monotonic() - begun:.0f} s)")


def put(iam, role, policy, statements_left):
    """Sets a policy. Deletes it if it has no statements."""
    if statements_left["Statement"]:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(statements_left))
    else:
        iam.delete_role_policy(RoleName=role, PolicyName=policy)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["create", zips_folder, ready_file]:
            create(zips_folder, ready_file)
        case ["statements", ready_file, *check] if check:
            statements(ready_file, check)
        case ["update", zips_folder]:
            update(zips_folder)
        case ["delete"]:
            delete()
        case _:
            sys.exit(__doc__)
