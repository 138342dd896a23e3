#!/usr/bin/env python3
"""Expands template.yaml as CloudFormation would, and checks the result against the rules for a deployment.

    .ci/expanded.py [TEMPLATE]

Needs only aws-sam-translator, no network and no account. Each rule first has to fail on a template that breaks it.
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

# Managed policies for logs, and for traces if they are enabled. All other rights are in the template.
MANAGED = {
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
    "arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess",
    "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess",
    "AmazonAPIGatewayPushToCloudWatchLogs",
}


METRICS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "shared", "lambda", "src", "metrics.rs")
NAMESPACE = "Messaging/${AWS::StackName}"
# Non-alphanumeric text has to be quoted, docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html
# (2026-11).
SEARCH = re.compile(rf"""SEARCH\('{{"{re.escape(NAMESPACE)}",(\w+)}} MetricName="(\w+)"', .*\)""")


class NoPolicies(ManagedPolicyLoader):
    """Loads no managed policies, because the template names none by its short name."""

    def __init__(self):
        super().__init__(None)

    def load(self):
        return {}


def read(path):
    """Reads a template as SAM does."""
    with open(path, encoding="utf-8") as template:
        return yaml_parse(template.read())


def expand(template, parameters=None):
    """Expands a SAM template to plain CloudFormation. Local code gets the address of a bucket."""
    template = copy.deepcopy(template)
    template["Globals"]["Function"].setdefault("CodeUri", "s3://code/function.zip")
    if not template["Globals"]["Function"]["CodeUri"].startswith("s3://"):
        template["Globals"]["Function"]["CodeUri"] = "s3://code/function.zip"
    return json.loads(json.dumps(transform(template, parameters or {}, NoPolicies())))


def of(document, kind):
    """Returns the resources of a type as pairs of logical id and properties."""
    return [(name, it["Properties"]) for name, it in document["Resources"].items() if it["Type"] == kind]


def text(value):
    """Returns a value with its intrinsic functions as a text that can be searched for names."""
    return value if isinstance(value, str) else json.dumps(value)


def invocations_are_permitted(document):
    """API Gateway and the schedule may invoke their functions, and each permission names its source."""
    permitted = set()
    for name, permission in of(document, "AWS::Lambda::Permission"):
        # A public function URL permits every caller. The function itself refuses requests without the edge's secret.
        if "FunctionUrlAuthType" in permission or "InvokedViaFunctionUrl" in permission:
            continue
        assert permission.get("SourceArn"), f"{name} names no source of {permission['Principal']}"
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


def policies_have_no_wildcard(document):
    """No action and no resource contains `*`, except for the id of a connection."""
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


def functions_have_separate_roles(document):
    """Each function has its own role, so no function has another's rights."""
    roles = [text(function["Role"]) for _, function in of(document, "AWS::Lambda::Function")]
    assert len(set(roles)) == len(roles), "two functions share a role"


def tables_are_encrypted_expiring_and_retained(document):
    """Tables have TTL, encryption, point-in-time recovery and deletion protection by parameter, and outlive the stack."""
    for name, table in of(document, "AWS::DynamoDB::Table"):
        resource = document["Resources"][name]
        assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}, f"{name} never expires"
        assert table["SSESpecification"]["SSEEnabled"] is True, f"{name} is not encrypted"
        recovery = table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        assert recovery is True, f"{name} cannot be restored"
        assert table["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}, f"{name} is not protected"
        assert table["BillingMode"] == "PAY_PER_REQUEST", f"{name} is provisioned"
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            assert resource.get(policy) == "Retain", f"{name} is deleted with the stack"


def queues_are_encrypted(document):
    """Queues are encrypted with SQS's own key."""
    for name, queue in of(document, "AWS::SQS::Queue"):
        assert queue["SqsManagedSseEnabled"] is True, f"{name} is not encrypted"


def functions_log_with_retention(document):
    """Each function logs JSON into its own log group of the template, which has a retention."""
    groups = dict(of(document, "AWS::Logs::LogGroup"))
    for name, group in groups.items():
        assert group.get("RetentionInDays"), f"{name} has no retention"
    used = set()
    for name, function in of(document, "AWS::Lambda::Function"):
        logging = function["LoggingConfig"]
        group = logging.get("LogGroup", {}).get("Ref")
        assert group in groups, f"{name} logs into a group that is not in the template"
        assert group not in used, f"{name} shares its group"
        assert logging["LogFormat"] == "JSON", f"{name} logs text"
        used.add(group)


def async_functions_keep_failed_events(document):
    """Each function that is invoked asynchronously has a destination for failed events."""
    configured = {text(it["FunctionName"]) for _, it in of(document, "AWS::Lambda::EventInvokeConfig")}
    for name in ("WorkerFunction", "ExpireFunction"):
        assert any(name in it for it in configured), f"{name} loses its failed events"
    for name, config in of(document, "AWS::Lambda::EventInvokeConfig"):
        assert config["DestinationConfig"]["OnFailure"]["Destination"], f"{name} has no destination"


def stages_are_throttled_without_logged_tokens(document):
    """Stages have limits. Their access logs have no query strings and no headers, which may contain tokens."""
    for name, stage in of(document, "AWS::ApiGatewayV2::Stage"):
        for limit in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
            assert stage["DefaultRouteSettings"].get(limit), f"{name} has no {limit}"
        logged = text(stage["AccessLogSettings"]).lower()
        for secret in ("querystring", "header", "rawquery", "$context.authorizer.token"):
            assert secret not in logged, f"{name} logs {secret}"


def handshakes_have_their_own_limit(document):
    """$connect has its own throttle, so that handshakes of strangers cannot use up the rate of the messages."""
    resources = document["Resources"]
    names = {name for name, route in of(document, "AWS::ApiGatewayV2::Route") if route["RouteKey"] == "$connect"}
    stages = [name for name, api in of(document, "AWS::ApiGatewayV2::Stage") if "RouteSettings" in api]
    assert len(names) == 1 and len(stages) == 1, f"{names} {stages}"
    stage = resources[stages[0]]["Properties"]
    own, shared = stage["RouteSettings"]["$connect"], stage["DefaultRouteSettings"]
    for limit in ("ThrottlingRateLimit", "ThrottlingBurstLimit"):
        assert own.get(limit) and own[limit] != shared[limit], f"$connect has no {limit} of its own"
    # API Gateway refuses settings of a route that does not exist yet.
    assert names <= set(resources[stages[0]].get("DependsOn", [])), "the stage may come before its route $connect"


def alarms_name_their_documentation(document):
    """Each alarm names its section of docs/operations.md for the operator."""
    alarms = of(document, "AWS::CloudWatch::Alarm")
    assert alarms, "there are no alarms"
    for name, alarm in alarms:
        anchor = f"docs/operations.md#{name.lower()}"
        assert anchor in alarm["AlarmDescription"], f"{name} does not name {anchor}"
        assert alarm["TreatMissingData"] == "notBreaching", f"{name} alarms without traffic"


def published_metrics():
    """Returns the names of the metrics that functions publish, and the dimensions of some of them."""
    with open(METRICS, encoding="utf-8") as source:
        code = source.read().split("#[cfg(test)]")[0]
    names = re.findall(r'(?:\.count\(|=> |push\(\s*&mut self\.\w+,\s*|"Name": )"(\w+)"', code)
    dimensions = re.findall(r'"Dimensions": \[\["(\w+)"\]\]', code)
    assert names and dimensions, f"{METRICS} has an unexpected form"
    return set(names), set(dimensions)


def alarms_watch_published_metrics(document):
    """Alarms watch only metrics that functions publish. An alarm on an unknown metric would never fire."""
    names, _ = published_metrics()
    for name, alarm in of(document, "AWS::CloudWatch::Alarm"):
        watched = [alarm] + [it["MetricStat"]["Metric"] for it in alarm.get("Metrics", []) if "MetricStat" in it]
        for metric in watched:
            if NAMESPACE in text(metric.get("Namespace", "")):
                assert metric["MetricName"] in names, f"{name} watches {metric['MetricName']}, which no function publishes"


def dashboard_shows_published_metrics(document):
    """The dashboard is JSON and shows only published metrics. CloudWatch checks the JSON at deployment, the metrics never."""
    names, dimensions = published_metrics()
    for _, dashboard in of(document, "AWS::CloudWatch::Dashboard"):
        widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
        assert len(widgets) > 5
        for widget in widgets:
            for metric in widget["properties"]["metrics"]:
                found = [metric[1]] if metric[0] == NAMESPACE else []
                if isinstance(metric[0], dict):
                    expression = metric[0]["expression"]
                    search = SEARCH.fullmatch(expression)
                    assert search, f"{expression} has an unexpected form"
                    assert search[1] in dimensions, f"no metric has the dimension {search[1]}"
                    found = [search[2]]
                for name in found:
                    assert name in names, f"the dashboard shows {name}, which no function publishes"


def access_log_waits_for_account_role(document):
    """If the stack sets the account's role, stages wait for it. API Gateway refuses access logs before there is a role."""
    log = document["Resources"]["AccessLog"]
    assert {"Ref": "Account"} in log.get("Metadata", {}).get("After", {}).get("Fn::If", []), "AccessLog does not wait"
    for name, stage in of(document, "AWS::ApiGatewayV2::Stage"):
        assert "AccessLog" in text(stage["AccessLogSettings"]), f"{name} does not wait"


def parameter_sets_are_complete(document):
    """The template refuses an incomplete issuer, with which no authorizer starts, and a domain without a certificate."""
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
    assert accepts() and accepts(**issuer) and accepts(**domain), "a complete set is refused"
    assert not accepts(EdgeDomainName="d"), "a domain needs no certificate"
    for missing in issuer:
        assert not accepts(**{**issuer, missing: ""}), f"an issuer needs no {missing}"
        assert not accepts(**{missing: issuer[missing]}), f"{missing} may be alone"


def sockjs_is_bounded_by_default(document):
    """SockJS over HTTP has a concurrency of its own, unless the parameter is 0."""
    function = document["Resources"]["SockjsFunction"]["Properties"]
    bounded = {"Fn::If": ["SockjsBounded", {"Ref": "SockjsConcurrency"}, {"Ref": "AWS::NoValue"}]}
    assert function.get("ReservedConcurrentExecutions") == bounded, "sockjs has no limit"
    assert document["Parameters"]["SockjsConcurrency"]["Default"] > 0, "by default sockjs has no limit"


RULES = {
    invocations_are_permitted: lambda resources, _: resources.pop("MessageFunctionWebSocketApiDefaultPermission", None)
    or resources.pop(next(name for name, it in resources.items() if it["Type"] == "AWS::Lambda::Permission")),
    policies_have_no_wildcard: lambda resources, _: resources["ConnectFunctionRole"]["Properties"]["Policies"][0][
        "PolicyDocument"
    ]["Statement"][0].update(Action=["dynamodb:*"]),
    functions_have_separate_roles: lambda resources, _: resources["ConnectFunction"]["Properties"].update(
        Role=resources["MessageFunction"]["Properties"]["Role"]
    ),
    tables_are_encrypted_expiring_and_retained: lambda resources, _: resources["Events"]["Properties"].update(
        TimeToLiveSpecification={"AttributeName": "ttl", "Enabled": False}
    ),
    queues_are_encrypted: lambda resources, _: resources["DeadLetters"]["Properties"].update(
        SqsManagedSseEnabled=False
    ),
    functions_log_with_retention: lambda resources, _: resources["ApiLog"]["Properties"].pop(
        "RetentionInDays"
    ),
    async_functions_keep_failed_events: lambda resources, _: resources.pop("WorkerFunctionEventInvokeConfig"),
    stages_are_throttled_without_logged_tokens: lambda resources, _: resources["WebSocketApiStage"]["Properties"][
        "AccessLogSettings"
    ]["Fn::If"][1].update(Format="$context.routeKey $request.querystring.access_token"),
    handshakes_have_their_own_limit: lambda resources, _: resources["WebSocketApiStage"]["Properties"].pop("RouteSettings"),
    alarms_name_their_documentation: lambda resources, _: resources["DrainAgeAlarm"]["Properties"].update(AlarmDescription="Oh"),
    alarms_watch_published_metrics: lambda resources, _: resources["GateWaitAlarm"]["Properties"].update(MetricName="Gates"),
    dashboard_shows_published_metrics: lambda resources, _: resources["Dashboard"]["Properties"]["DashboardBody"].update(
        {"Fn::Sub": resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"].replace("PostsGone", "Posts")}
    ),
    access_log_waits_for_account_role: lambda resources, _: resources["AccessLog"].pop("Metadata"),
    sockjs_is_bounded_by_default: lambda resources, _: resources["SockjsFunction"]["Properties"].pop(
        "ReservedConcurrentExecutions"
    ),
    parameter_sets_are_complete: lambda _, rules: rules.pop("WholeIssuer"),
}


def main():
    """Checks that each rule fails on a document that breaks it, and holds for the document."""
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
            sys.exit(f"{rule.__name__} accepts a document that breaks it")
        try:
            rule(document)
        except AssertionError as problem:
            sys.exit(f"{rule.__name__}: {problem}")
    for parameters in ({"Tracing": "Active"}, {"AccessLogs": "on", "Metrics": "off"}, {"Architecture": "x86_64"}):
        policies_have_no_wildcard(expand(template, parameters))
    print(f"{len(document['Resources'])} resources, {len(RULES)} rules hold")


if __name__ == "__main__":
    main()
