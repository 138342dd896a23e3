"""Transforms a SAM template as CloudFormation would; what cannot be transformed is an error."""

import json
import sys

import boto3
from samtranslator.public.translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoPolicies(ManagedPolicyLoader):
    """The template names no managed policy of AWS, so none is looked up."""

    def __init__(self):
        super().__init__(None)

    def load(self):
        return {}


with open(sys.argv[1], encoding="utf-8") as template:
    session = boto3.session.Session(region_name="us-east-1")
    document = transform(yaml_parse(template.read()), {}, NoPolicies())
print(f"{len(json.loads(json.dumps(document))['Resources'])} resources")
