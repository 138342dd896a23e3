//! Converts YAML with CloudFormation's tags to JSON with the long forms.

use serde_json::{Map, Value as Json};
use serde_yaml_ng::Value as Yaml;
use serde_yaml_ng::value::TaggedValue;

/// Parses a template. `!Sub x` becomes `{"Fn::Sub": x}` and so on.
pub(super) fn parse(text: &str) -> Result<Json, serde_yaml_ng::Error> {
    let mut document: Yaml = serde_yaml_ng::from_str(text)?;
    document.apply_merge()?;
    Ok(plain(document))
}

/// Returns the location of a logical id: the id and its line, or only the id if the line is not found.
pub(super) fn place(text: &str, id: &str) -> String {
    let line = text
        .lines()
        .zip(1..)
        .skip_while(|(line, _)| !line.starts_with("Resources:"))
        .find(|(line, _)| {
            line.starts_with(' ')
                && line
                    .trim_start()
                    .strip_prefix(id)
                    .is_some_and(|rest| rest.starts_with(':'))
        });
    match line {
        Some((_, number)) => format!("line {number}: {id}"),
        None => id.to_owned(),
    }
}

fn plain(value: Yaml) -> Json {
    match value {
        Yaml::Null => Json::Null,
        Yaml::Bool(value) => Json::Bool(value),
        Yaml::Number(number) => number_of(&number),
        Yaml::String(text) => Json::String(text),
        Yaml::Sequence(values) => Json::Array(values.into_iter().map(plain).collect()),
        Yaml::Mapping(entries) => Json::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key_text(key), plain(value)))
                .collect(),
        ),
        Yaml::Tagged(tagged) => long_form(*tagged),
    }
}

fn number_of(number: &serde_yaml_ng::Number) -> Json {
    match (number.as_i64(), number.as_f64()) {
        (Some(number), _) => number.into(),
        (None, Some(number)) => number.into(),
        (None, None) => Json::Null,
    }
}

fn key_text(key: Yaml) -> String {
    match plain(key) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn long_form(tagged: TaggedValue) -> Json {
    let tag = tagged.tag.to_string();
    let name = tag.trim_start_matches('!');
    let argument = plain(tagged.value);
    let (key, argument) = match (name, argument) {
        ("Ref" | "Condition", argument) => (name.to_owned(), argument),
        ("GetAtt", Json::String(path)) => {
            let parts = path.splitn(2, '.').map(Json::from).collect();
            ("Fn::GetAtt".to_owned(), Json::Array(parts))
        }
        (_, argument) => (format!("Fn::{name}"), argument),
    };
    Json::Object(Map::from_iter([(key, argument)]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_forms_become_long_forms() {
        let text = "a: !Ref X\nb: !GetAtt F.Arn\nc: !Join ['-', [!Ref X, 1]]\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "a": {"Ref": "X"},
                "b": {"Fn::GetAtt": ["F", "Arn"]},
                "c": {"Fn::Join": ["-", [{"Ref": "X"}, 1]]},
            })
        );
    }

    #[test]
    fn merge_keys_and_anchors_are_resolved() {
        let text = "a: &a { x: 1 }\nb: { <<: *a, y: 2 }\n";
        assert_eq!(parse(text).unwrap()["b"], json!({"x": 1, "y": 2}));
    }

    #[test]
    fn location_names_line_below_resources() {
        let text = "Outputs:\n  A: x\nResources:\n  B: {}\n  A:\n    Type: T\n";
        assert_eq!(place(text, "A"), "line 5: A");
        assert_eq!(place(text, "Parameters"), "Parameters");
    }
}
