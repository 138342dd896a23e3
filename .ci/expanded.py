#!/usr/bin/env python3
"""Expands template.yaml as CloudFormation would, and holds what comes of it to what a deployment must be.

    .ci/expanded.py [TEMPLATE]

Needs aws-sam-translator, nothing else, no network and no account. Each rule is first tried on a template that breaks it.
"""

import copy
import json
import os
import re
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

# pylint: disable=wrong-import-position
from samtranslator.public.translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# What functions write their logs with, and traces where they are on. Everything else is in the template.
MANAGED = {
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
    "arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess",
    "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess",
    "AmazonAPIGatewayPushToCloudWatchLogs",
}


METRICS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "shared", "lambda", "src", "metrics.rs")
NAMESPACE = "Messaging/${AWS::StackName}"
# What is not alphanumeric has to stand in quotes, docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html
# (2026-11).
SEARCH = re.compile(rf"""SEARCH\('{{"{re.escape(NAMESPACE)}",(\w+)}} MetricName="(\w+)"', .*\)""")


class NoPolicies(ManagedPolicyLoader):
    """The template names no managed policy of AWS, so none is looked up."""

    def __init__(self):
        super().__init__(None)

    def load(self):
        return {}


def read(path):
    """The template as SAM reads it."""
    with open(path, encoding="utf-8") as template:
        return yaml_parse(template.read())


def expand(template, parameters=None):
    """Plain CloudFormation. Code that is not in a bucket yet is said to be in one."""
    template = copy.deepcopy(template)
    template["Globals"]["Function"].setdefault("CodeUri", "s3://code/function.zip")
    if not template["Globals"]["Function"]["CodeUri"].startswith("s3://"):
        template["Globals"]["Function"]["CodeUri"] = "s3://code/function.zip"
    return json.loads(json.dumps(transform(template, parameters or {}, NoPolicies())))


def of(document, kind):
    """The resources of a kind: (logical id, properties)."""
    return [(name, it["Properties"]) for name, it in document["Resources"].items() if it["Type"] == kind]


def text(value):
    """A value with its intrinsic functions as a text, to look for names in."""
    return value if isinstance(value, str) else json.dumps(value)


def every_invocation_is_permitted(document):
    """API Gateway and the schedule may invoke what they invoke, and each permission says from where."""
    permitted = set()
    for name, permission in of(document, "AWS::Lambda::Permission"):
        # An open function URL permits everybody; the function itself refuses who has not the edge's secret.
        if "FunctionUrlAuthType" in permission or "InvokedViaFunctionUrl" in permission:
            continue
        assert permission.get("SourceArn"), f"{name} permits everybody of {permission['Principal']}"
        permitted.add((text(permission["FunctionName"]), permission["Principal"]))
    functions = [name for name, _ in of(document, "AWS::Lambda::Function")]

    def needs(function_text, principal, whose):
        invoked = [name for name in functions if f"{name}." in function_text or f'"{name}"' in function_text]
        assert len(invoked) == 1, f"{whose} invokes {invoked}"
        found = any(invoked[0] in function and principal == by for function, by in permitted)
        assert found, f"{whose} may not invoke {invoked[0]}"

    for name, integration in of(document, "AWS::ApiGatewayV2::Integration"):
        needs(text(integration["IntegrationUri"]), "apigateway.amazonaws.com", name)
    for name, authorizer in of(document, "AWS::ApiGatewayV2::Authorizer"):
        needs(text(authorizer["AuthorizerUri"]), "apigateway.amazonaws.com", name)
    for name, api in of(document, "AWS::ApiGatewayV2::Api"):
        for path, methods in api.get("Body", {}).get("paths", {}).items():
            for method in methods.values():
                uri = method["x-amazon-apigateway-integration"]["uri"]
                needs(text(uri), "apigateway.amazonaws.com", f"{name} {path}")
    for name, rule in of(document, "AWS::Events::Rule"):
        for target in rule["Targets"]:
            needs(text(target["Arn"]), "events.amazonaws.com", name)


def no_policy_has_a_wildcard(document):
    """No action and no resource is `*`; only which connection it is may be open."""
    for name, role in of(document, "AWS::IAM::Role"):
        for managed in role.get("ManagedPolicyArns", []):
            known = any(it in text(managed) for it in MANAGED)
            assert known, f"{name} has {text(managed)}"
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow", f"{name} denies"
                actions, resources = statement["Action"], statement["Resource"]
                for action in [actions] if isinstance(actions, str) else actions:
                    assert "*" not in action, f"{name} may {action}"
                for resource in resources if isinstance(resources, list) else [resources]:
                    narrow = text(resource).replace("/@connections/*", "")
                    assert "*" not in narrow, f"{name} may {actions} on {text(resource)}"


def every_function_has_a_role_of_its_own(document):
    """So that no function has another's rights."""
    roles = [text(function["Role"]) for _, function in of(document, "AWS::Lambda::Function")]
    assert len(set(roles)) == len(roles), "two functions share a role"


def every_table_is_kept_encrypted_and_expires(document):
    """TTL, encryption, point-in-time recovery, deletion protection by parameter, and kept with the stack gone."""
    for name, table in of(document, "AWS::DynamoDB::Table"):
        resource = document["Resources"][name]
        assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}, f"{name} never expires"
        assert table["SSESpecification"]["SSEEnabled"] is True, f"{name} is not encrypted"
        recovery = table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        assert recovery is True, f"{name} cannot be restored"
        assert table["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}, f"{name} is not protected"
        assert table["BillingMode"] == "PAY_PER_REQUEST", f"{name} is provisioned"
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            assert resource.get(policy) == "Retain", f"{name} goes with the stack"


def every_queue_is_encrypted(document):
    """By SQS's own key."""
    for name, queue in of(document, "AWS::SQS::Queue"):
        assert queue["SqsManagedSseEnabled"] is True, f"{name} is not encrypted"


def every_function_logs_into_a_group_that_forgets(document):
    """A group of its own in the template, in JSON, with a retention."""
    groups = dict(of(document, "AWS::Logs::LogGroup"))
    for name, group in groups.items():
        assert group.get("RetentionInDays"), f"{name} keeps its lines for ever"
    used = set()
    for name, function in of(document, "AWS::Lambda::Function"):
        logging = function["LoggingConfig"]
        group = logging.get("LogGroup", {}).get("Ref")
        assert group in groups, f"{name} logs into a group that nobody empties"
        assert group not in used, f"{name} shares its group"
        assert logging["LogFormat"] == "JSON", f"{name} logs text"
        used.add(group)


def what_fails_for_good_is_kept(document):
    """Each function that is invoked asynchronously has somewhere to put what it could not do."""
    configured = {text(it["FunctionName"]) for _, it in of(document, "AWS::Lambda::EventInvokeConfig")}
    for name in ("FanoutFunction", "ExpireFunction"):
        assert any(name in it for it in configured), f"what {name} cannot do is lost"
    for name, config in of(document, "AWS::Lambda::EventInvokeConfig"):
        assert config["DestinationConfig"]["OnFailure"]["Destination"], f"{name} has no destination"


def stages_are_throttled_and_their_logs_have_no_token(document):
    """The query string and the headers, where tokens are, are in no access log."""
    for name, stage in of(document, "AWS::ApiGatewayV2::Stage"):
        for limit in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
            assert stage["DefaultRouteSettings"].get(limit), f"{name} has no {limit}"
        logged = text(stage["AccessLogSettings"]).lower()
        for secret in ("querystring", "header", "rawquery", "$context.authorizer.token"):
            assert secret not in logged, f"{name} logs {secret}"


def alarms_say_what_to_do(document):
    """Each names its section of the document for whoever is woken."""
    alarms = of(document, "AWS::CloudWatch::Alarm")
    assert alarms, "there are no alarms"
    for name, alarm in alarms:
        anchor = f"docs/operations.md#{name.lower()}"
        assert anchor in alarm["AlarmDescription"], f"{name} does not say where to read on"
        assert alarm["TreatMissingData"] == "notBreaching", f"{name} rings while nobody talks"


def told():
    """The names of the metrics that functions tell, and the dimensions that some have."""
    with open(METRICS, encoding="utf-8") as source:
        code = source.read().split("#[cfg(test)]")[0]
    names = re.findall(r'(?:\.count\(|=> |push\(\s*&mut self\.\w+,\s*|"Name": )"(\w+)"', code)
    dimensions = re.findall(r'"Dimensions": \[\["(\w+)"\]\]', code)
    assert names and dimensions, f"{METRICS} is written otherwise"
    return set(names), set(dimensions)


def alarms_watch_what_is_told(document):
    """Nobody tells a metric by another name, and an alarm on one without values never rings."""
    names, _ = told()
    for name, alarm in of(document, "AWS::CloudWatch::Alarm"):
        watched = [alarm] + [it["MetricStat"]["Metric"] for it in alarm.get("Metrics", []) if "MetricStat" in it]
        for metric in watched:
            if NAMESPACE in text(metric.get("Namespace", "")):
                assert metric["MetricName"] in names, f"{name} watches {metric['MetricName']}, which nobody tells"


def the_dashboard_is_one(document):
    """CloudWatch would refuse what is no JSON only when it is deployed, and never what nobody tells."""
    names, dimensions = told()
    for _, dashboard in of(document, "AWS::CloudWatch::Dashboard"):
        widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
        assert len(widgets) > 5
        for widget in widgets:
            for metric in widget["properties"]["metrics"]:
                found = [metric[1]] if metric[0] == NAMESPACE else []
                if isinstance(metric[0], dict):
                    expression = metric[0]["expression"]
                    search = SEARCH.fullmatch(expression)
                    assert search, f"{expression} is written otherwise"
                    assert search[1] in dimensions, f"nothing is told by {search[1]}"
                    found = [search[2]]
                for name in found:
                    assert name in names, f"the dashboard shows {name}, which nobody tells"


def the_access_log_waits_for_the_account_s_role(document):
    """Where the stack sets the role: API Gateway refuses a stage that logs before there is one."""
    log = document["Resources"]["AccessLog"]
    assert {"Ref": "Account"} in log.get("Metadata", {}).get("After", {}).get("Fn::If", []), "AccessLog does not wait"
    for name, stage in of(document, "AWS::ApiGatewayV2::Stage"):
        assert "AccessLog" in text(stage["AccessLogSettings"]), f"{name} does not wait"


def what_belongs_together_is_given_together(document):
    """Half an issuer, with which no authorizer starts, and a domain without a certificate are refused at once."""
    defaults = {name: it.get("Default") for name, it in document["Parameters"].items()}

    def holds(expression, values):
        ((function, arguments),) = expression.items()
        if function == "Fn::Equals":
            left, right = (values[it["Ref"]] if isinstance(it, dict) else it for it in arguments)
            return left == right
        results = [holds(it, values) for it in arguments]
        return {"Fn::And": all(results), "Fn::Or": any(results), "Fn::Not": not results[0]}[function]

    def accepts(**given):
        rules = document["Rules"].values()
        return all(holds(it["Assert"], {**defaults, **given}) for rule in rules for it in rule["Assertions"])

    issuer = {"JwtIssuer": "i", "JwtAudience": "a", "JwtJwksUrl": "https://k"}
    domain = {"EdgeDomainName": "d", "EdgeCertificateArn": "arn"}
    assert accepts() and accepts(**issuer) and accepts(**domain), "a whole set is refused"
    assert not accepts(EdgeDomainName="d"), "a domain needs no certificate"
    for missing in issuer:
        assert not accepts(**{**issuer, missing: ""}), f"an issuer needs no {missing}"
        assert not accepts(**{missing: issuer[missing]}), f"{missing} may be alone"


RULES = {
    every_invocation_is_permitted: lambda resources, _: resources.pop("MessageFunctionWebSocketApiDefaultPermission", None)
    or resources.pop(next(name for name, it in resources.items() if it["Type"] == "AWS::Lambda::Permission")),
    no_policy_has_a_wildcard: lambda resources, _: resources["ConnectFunctionRole"]["Properties"]["Policies"][0][
        "PolicyDocument"
    ]["Statement"][0].update(Action=["dynamodb:*"]),
    every_function_has_a_role_of_its_own: lambda resources, _: resources["ConnectFunction"]["Properties"].update(
        Role=resources["MessageFunction"]["Properties"]["Role"]
    ),
    every_table_is_kept_encrypted_and_expires: lambda resources, _: resources["Events"]["Properties"].update(
        TimeToLiveSpecification={"AttributeName": "ttl", "Enabled": False}
    ),
    every_queue_is_encrypted: lambda resources, _: resources["DeadLetters"]["Properties"].update(
        SqsManagedSseEnabled=False
    ),
    every_function_logs_into_a_group_that_forgets: lambda resources, _: resources["ApiLog"]["Properties"].pop(
        "RetentionInDays"
    ),
    what_fails_for_good_is_kept: lambda resources, _: resources.pop("FanoutFunctionEventInvokeConfig"),
    stages_are_throttled_and_their_logs_have_no_token: lambda resources, _: resources["WebSocketApiStage"]["Properties"][
        "AccessLogSettings"
    ]["Fn::If"][1].update(Format="$context.routeKey $request.querystring.access_token"),
    alarms_say_what_to_do: lambda resources, _: resources["DrainAgeAlarm"]["Properties"].update(AlarmDescription="Oh"),
    alarms_watch_what_is_told: lambda resources, _: resources["GateWaitAlarm"]["Properties"].update(MetricName="Gates"),
    the_dashboard_is_one: lambda resources, _: resources["Dashboard"]["Properties"]["DashboardBody"].update(
        {"Fn::Sub": resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"].replace("PostsGone", "Posts")}
    ),
    the_access_log_waits_for_the_account_s_role: lambda resources, _: resources["AccessLog"].pop("Metadata"),
    what_belongs_together_is_given_together: lambda _, rules: rules.pop("WholeIssuer"),
}


def main():
    """Tries each rule on a document that breaks it, and then all on the document."""
    template = read(sys.argv[1] if len(sys.argv) > 1 else "template.yaml")
    document = expand(template)
    for rule, violate in RULES.items():
        broken = copy.deepcopy(document)
        violate(broken["Resources"], broken["Rules"])
        try:
            rule(broken)
        except (AssertionError, ValueError):
            pass
        else:
            sys.exit(f"{rule.__name__} does not notice that it is broken")
        try:
            rule(document)
        except AssertionError as problem:
            sys.exit(f"{rule.__name__}: {problem}")
    for parameters in ({"Tracing": "Active"}, {"AccessLogs": "on", "Metrics": "off"}, {"Architecture": "x86_64"}):
        no_policy_has_a_wildcard(expand(template, parameters))
    print(f"{len(document['Resources'])} resources, {len(RULES)} rules hold")


if __name__ == "__main__":
    main()
