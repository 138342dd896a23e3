#!/usr/bin/env python3
"""Deploys template.yaml through CloudFormation on an emulator of AWS, updates and deletes the stack, and asks it for the
rights of its functions.

    stack.py create ZIPS READY   the stack from the zips of a folder; its URLs go to the file READY
    stack.py statements READY COMMAND…
                                 takes each statement of each function's policy away in turn and runs the command, or what
                                 rights.py has for that function, which has to fail; and once with all of them, when it
                                 has to succeed
    stack.py update ZIPS         another memory size, in place, and with it the edge, a stack within; the ids stay
    stack.py delete              nothing is left of it but what is kept on purpose

AWS_ENDPOINT_URL names the emulator. What differs from an account, each because the emulator lacks it:

- alarms by metric math are left out
- the HTTP API, which SAM writes as an OpenAPI document, is written as a route and its integration
- an authorizer that names no identity source names none, rather than the Authorization header
- @connections is at the emulator's own path, so CONNECTIONS_ENDPOINT is that; and so is the stage, so DOORBELL_URL is that
- its CloudFront knows no WebSockets and answers by host only, so the tests run with Edge off and ask for SockJS at its
  function's own URL; the edge comes with the update
- a reference to a secret is its name there and not its ARN, so the edge is given its ARN; and it does not resolve what a
  stack within resolves, so the distribution gets the secret's text by a call
- the times to live, which it ignores in a template, are switched on by a call
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

# What its absence does not change for a client, with the reason: tests/tests/rights.rs sees that it is used.
NOT_HERE = {
    ("DisconnectFunctionRole", "Tokens"): "the row that would be left goes when the token ends",
    ("FanoutFunctionRole", "Tokens"): "it clears up after connections that left at once",
    ("SockjsFunctionRole", "Connections"): "what it cannot post the worker posts",
}

STACK = "messaging"
BUCKET = "messaging-code"
EDGE = "infra/edge/template.yaml"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
WEBSOCKETS = ENDPOINT.replace("http", "ws", 1)
TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "template.yaml")
PARAMETERS = {"Architecture": "x86_64", "DeletionProtection": "false", "Edge": "off", "AllowedOrigins": "*"}


def client(service):
    """A client of the emulator, which takes any key that is no function's for an administrator's."""
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def document(more):
    """Where the template is: expanded, fitted to the emulator, and like the code in a bucket, since it is too long for a request."""
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
            print(f"left out: {name}, an alarm by metric math")
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
    """Puts a template into the bucket, and says where it is."""
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"{ENDPOINT}/{BUCKET}/{key}"


def routes(resources, name, api):
    """Writes an OpenAPI document as the resources that stand for it."""
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
    """The functions' code, where the template says it is."""
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for name in os.listdir(zips):
        if name.endswith(".zip"):
            s3.upload_file(os.path.join(zips, name), BUCKET, name)


def settled(cloudformation, wanted):
    """Waits until the stack is done with what it does, and says why if that is not what was wanted."""
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
        sys.exit(f"the stack is {stack['StackStatus']} and not {wanted}")
    return {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}


def resources_of(kind):
    """Physical ids by logical ids."""
    listed = client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in listed if it["ResourceType"] == kind}


def function_url_id():
    """The first label of the host that the function's URL has on AWS."""
    function = resources_of("AWS::Lambda::Function")["SockjsFunction"]
    url = client("lambda").get_function_url_config(FunctionName=function)["FunctionUrl"]
    return url.split("//")[1].split(".")[0]


def parameters(more):
    """As CloudFormation takes them."""
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in {**PARAMETERS, **more}.items()]


def create(zips, ready):
    """Deploys the stack."""
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
    """Changes the stack in place: another memory size reaches the functions, and no id changes."""
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
    """The distribution's function answers, or passes on to the function, which takes nothing from anybody else."""
    resolve_secret()
    edge, path = url.removeprefix("https://").split("/", 1)
    around = f"{ENDPOINT}/_aws/lambda-url/{function_url_id()}"
    for wanted, place, through in (
        ((200, "Welcome to SockJS!\n"), f"{ENDPOINT}/{path}", edge),
        ((404, "There is nothing here.\n"), f"{ENDPOINT}/elsewhere", edge),
        ((401, "Unauthorized"), f"{ENDPOINT}/{path}/info", edge),
        ((403, "Forbidden\n"), f"{around}/{path}/info", None),
    ):
        found = answer(place, through)
        assert found == wanted, f"{place} through {through}: {found}"


def resolve_secret():
    """What CloudFormation does with `{{resolve:secretsmanager:…}}`."""
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
    """Status and body of an answer, through a distribution as CloudFront's viewers ask."""
    headers = {"Host": edge, "X-Forwarded-Proto": "https"} if edge else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def delete():
    """Deletes the stack. The tables are kept, as the template says."""
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
    assert all(table in kept for table in tables), "a table went with the stack"
    left = {it["FunctionName"] for it in client("lambda").list_functions()["Functions"]}
    assert not left.intersection(functions), "a function outlived the stack"
    print("deleted, with the tables kept")


def works(name, sid, command, urls):
    """Whether everything that a role is for works."""
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
    """Runs the function of each minute."""
    function = resources_of("AWS::Lambda::Function")["ExpireFunction"]
    answer = client("lambda").invoke(FunctionName=function)
    if "FunctionError" in answer:
        raise rights.Missing(f"a run fails: {answer['Payload'].read()}")


def leave_undone(domain):
    """What functions that died leave: an event that nobody pushed, and a session that is due to be looked at."""
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
    """Whether a session of the domain has a doorbell."""
    return any("doorbell" in session for session in sessions_of(domain)[1])


def sessions_of(domain):
    """The table of sessions, and those of a domain."""
    table = resources_of("AWS::DynamoDB::Table")["Sessions"]
    items = client("dynamodb").scan(TableName=table)["Items"]
    return table, [it for it in items if it["domain"]["S"] == domain]


def statements(ready, command):
    """Takes each statement away in turn, and has what the function is for find that out."""
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
            sys.exit(f"it fails with every statement in place ({name})")
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
        sys.exit(f"nobody noticed {unnoticed}")
    print(f"each of {tried} statements is needed ({time.monotonic() - begun:.0f} s)")


def put(iam, role, policy, statements_left):
    """Sets a policy; one without statements is none."""
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
