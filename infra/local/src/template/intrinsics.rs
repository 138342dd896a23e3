//! Evaluates intrinsic functions.

use serde_json::{Map, Value};

use super::scope::Scope;
use super::values::{resource_type, scalar, single};
use super::{ACCOUNT, STACK};

impl Scope<'_> {
    /// Returns `value` with every intrinsic function evaluated. Values that are `AWS::NoValue` are removed.
    pub(super) fn resolve(&self, value: &Value) -> Result<Value, String> {
        match value {
            Value::Array(values) => {
                let values: Result<Vec<_>, _> = values.iter().map(|v| self.resolve(v)).collect();
                Ok(values?.into_iter().filter(|v| !v.is_null()).collect())
            }
            Value::Object(entries) => match single(entries) {
                Some((name, argument)) if name == "Ref" || name.starts_with("Fn::") => {
                    self.call(name, argument)
                }
                _ => {
                    let mut resolved = Map::new();
                    for (key, value) in entries {
                        let value = self.resolve(value)?;
                        if !value.is_null() {
                            resolved.insert(key.clone(), value);
                        }
                    }
                    Ok(Value::Object(resolved))
                }
            },
            other => Ok(other.clone()),
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Value, String> {
        self.deeper(|| match (name, argument) {
            ("Ref", Value::String(target)) => self.reference(target),
            ("Fn::Sub", Value::String(text)) => self.substitute(text, &Map::new()),
            ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(text), Value::Object(names)] => self.substitute(text, names),
                _ => Err("Fn::Sub takes a text, or a text and a map of variables".to_owned()),
            },
            ("Fn::GetAtt", Value::String(path)) => {
                let (id, attribute) = path.split_once('.').unwrap_or((path, ""));
                self.attribute(id, attribute)
            }
            ("Fn::GetAtt", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(id), Value::String(attribute)] => self.attribute(id, attribute),
                _ => Err("Fn::GetAtt takes a logical id and an attribute".to_owned()),
            },
            ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(delimiter), list] => self.join(delimiter, list),
                _ => Err("Fn::Join takes a delimiter and a list".to_owned()),
            },
            ("Fn::Select", Value::Array(parts)) => match parts.as_slice() {
                [index, list] => self.select(index, list),
                _ => Err("Fn::Select takes an index and a list".to_owned()),
            },
            ("Fn::Split", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(delimiter), text] => Ok(self
                    .text(text)?
                    .split(delimiter.as_str())
                    .map(Value::from)
                    .collect()),
                _ => Err("Fn::Split takes a delimiter and a text".to_owned()),
            },
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(condition), yes, no] => {
                    self.resolve(if self.holds(condition)? { yes } else { no })
                }
                _ => Err("Fn::If takes a condition and two values".to_owned()),
            },
            ("Fn::FindInMap", Value::Array(parts)) => self.find_in_map(parts),
            _ => Err(format!("the local gateway cannot evaluate {name}")),
        })
    }

    fn reference(&self, target: &str) -> Result<Value, String> {
        if let Some(value) = self.parameters.get(target) {
            return Ok(value.clone());
        }
        let pseudo = match target {
            "AWS::Region" => self.region,
            "AWS::AccountId" => ACCOUNT,
            "AWS::Partition" => "aws",
            "AWS::URLSuffix" => "amazonaws.com",
            "AWS::StackName" => STACK,
            "AWS::StackId" => {
                return Ok(format!(
                    "arn:aws:cloudformation:{}:{ACCOUNT}:stack/{STACK}/local",
                    self.region
                )
                .into());
            }
            "AWS::NoValue" => return Ok(Value::Null),
            _ => return self.physical_id(target).map(Value::String),
        };
        Ok(pseudo.into())
    }

    /// Returns the value of `Ref` for a resource.
    pub(super) fn physical_id(&self, id: &str) -> Result<String, String> {
        let resource = self
            .resources
            .get(id)
            .ok_or_else(|| format!("it refers to `{id}`, which the template does not have"))?;
        let kind = resource_type(resource);
        let named_by = match kind {
            "AWS::Serverless::WebSocketApi" => return Ok("localws001".to_owned()),
            "AWS::Serverless::HttpApi" => return Ok(self.http_api_id(id)),
            "AWS::SecretsManager::Secret" => {
                return Ok(format!(
                    "arn:aws:secretsmanager:{}:{ACCOUNT}:secret:{STACK}-{id}",
                    self.region
                ));
            }
            "AWS::Serverless::Function" => "FunctionName",
            "AWS::DynamoDB::Table" => "TableName",
            "AWS::SQS::Queue" => {
                return Ok(format!(
                    "https://sqs.{}.amazonaws.com/{ACCOUNT}/{STACK}-{id}",
                    self.region
                ));
            }
            _ => return Ok(format!("{STACK}-{id}")),
        };
        match resource
            .get("Properties")
            .and_then(|properties| properties.get(named_by))
        {
            Some(name) => self.deeper(|| self.text(name)),
            None => Ok(format!("{STACK}-{id}")),
        }
    }

    /// Returns the id of an HTTP API: ten characters, as on AWS. SAM's implicit API has the number 0.
    pub(super) fn http_api_id(&self, id: &str) -> String {
        let apis = self
            .resources
            .iter()
            .filter(|(_, resource)| resource_type(resource) == "AWS::Serverless::HttpApi");
        let number = apis
            .zip(1..)
            .find(|((other, _), _)| *other == id)
            .map_or(0, |(_, n)| n);
        format!("localhttp{number}")
    }

    fn attribute(&self, id: &str, attribute: &str) -> Result<Value, String> {
        if let Some(function) = id.strip_suffix("Url")
            && attribute == "FunctionUrl"
            && self.resources.contains_key(function)
        {
            return Ok(super::function_url(function, self.region).into());
        }
        let physical = self.physical_id(id)?;
        let kind = self.resources.get(id).map_or("", resource_type);
        let region = self.region;
        let value = match (kind, attribute) {
            ("AWS::Serverless::Function", "Arn") => {
                format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{physical}")
            }
            ("AWS::CloudFront::Function", "FunctionARN" | "FunctionMetadata.FunctionARN") => {
                format!("arn:aws:cloudfront::{ACCOUNT}:function/{id}")
            }
            ("AWS::DynamoDB::Table", "Arn") => {
                format!("arn:aws:dynamodb:{region}:{ACCOUNT}:table/{physical}")
            }
            ("AWS::SQS::Queue", "Arn") => format!("arn:aws:sqs:{region}:{ACCOUNT}:{STACK}-{id}"),
            ("AWS::SQS::Queue", "QueueName") => format!("{STACK}-{id}"),
            ("AWS::IAM::Role", "Arn") => format!("arn:aws:iam::{ACCOUNT}:role/{physical}"),
            ("AWS::Logs::LogGroup", "Arn") => {
                format!("arn:aws:logs:{region}:{ACCOUNT}:log-group:{physical}:*")
            }
            (_, "ApiId") => physical,
            ("AWS::Serverless::WebSocketApi", "ApiEndpoint") => {
                format!("wss://{physical}.execute-api.{region}.amazonaws.com")
            }
            ("AWS::Serverless::HttpApi", "ApiEndpoint") => {
                format!("https://{physical}.execute-api.{region}.amazonaws.com")
            }
            _ => {
                return Err(format!(
                    "the local gateway does not support the attribute {attribute} of {id} ({kind})"
                ));
            }
        };
        Ok(value.into())
    }

    fn substitute(&self, text: &str, names: &Map<String, Value>) -> Result<Value, String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            result.push_str(before);
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a ${{ without its }}"))?;
            rest = after;
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let value = match (names.get(name), name.split_once('.')) {
                (Some(value), _) => self.resolve(value)?,
                (None, Some((id, attribute))) => self.attribute(id, attribute)?,
                (None, None) => self.reference(name)?,
            };
            result.push_str(
                &scalar(&value).ok_or_else(|| format!("`{name}` in `{text}` is not a text"))?,
            );
        }
        result.push_str(rest);
        Ok(result.into())
    }

    fn join(&self, delimiter: &str, list: &Value) -> Result<Value, String> {
        let Value::Array(list) = self.resolve(list)? else {
            return Err("Fn::Join takes a list".to_owned());
        };
        let parts: Option<Vec<_>> = list.iter().map(scalar).collect();
        let parts = parts.ok_or("Fn::Join joins only texts")?;
        Ok(parts.join(delimiter).into())
    }

    fn select(&self, index: &Value, list: &Value) -> Result<Value, String> {
        let index = self.text(index)?;
        let list = self.resolve(list)?;
        let chosen = index
            .parse::<usize>()
            .ok()
            .and_then(|index| list.as_array()?.get(index));
        chosen
            .cloned()
            .ok_or_else(|| format!("Fn::Select: there is no element {index}"))
    }

    fn find_in_map(&self, keys: &[Value]) -> Result<Value, String> {
        let keys: Result<Vec<_>, _> = keys.iter().map(|key| self.text(key)).collect();
        let keys = keys?;
        let mut found = None;
        for key in &keys {
            let within = found.map_or(self.mappings, Value::as_object);
            found = Some(
                within
                    .and_then(|map| map.get(key))
                    .ok_or_else(|| format!("there is no mapping {}", keys.join(".")))?,
            );
        }
        found
            .cloned()
            .ok_or_else(|| "Fn::FindInMap takes a mapping and two keys".to_owned())
    }

    /// Resolves `value` to a text. Fails if the result is not a text, a number or a boolean.
    pub(super) fn text(&self, value: &Value) -> Result<String, String> {
        let resolved = self.resolve(value)?;
        scalar(&resolved).ok_or_else(|| format!("{resolved} is not a text"))
    }
}
