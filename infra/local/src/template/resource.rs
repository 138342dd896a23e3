//! One resource of a template: its properties, and the check that they are supported.

use serde_json::{Map, Value};

use super::scope::Scope;

/// A problem and its location, which is a logical id or a section of the template.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) place: String,
    pub(super) text: String,
}

/// One resource with its `Globals` merged in. Intrinsic functions are evaluated on demand.
#[derive(Debug)]
pub(super) struct Resource<'a> {
    pub(super) id: &'a str,
    pub(super) scope: &'a Scope<'a>,
    pub(super) metadata: Option<&'a Value>,
    pub(super) properties: Map<String, Value>,
}

impl Resource<'_> {
    /// Returns the property `name`, resolved.
    pub(super) fn get(&self, name: &str) -> Result<Option<Value>, String> {
        let value = self
            .properties
            .get(name)
            .map(|value| self.scope.resolve(value))
            .transpose();
        let value = value.map_err(|problem| format!("{name}: {problem}"))?;
        Ok(value.filter(|value| !value.is_null()))
    }

    /// Returns the property `name` as a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.get(name)?
            .map(|value| self.scope.text(&value))
            .transpose()
            .map_err(|problem| format!("{name}: {problem}"))
    }

    /// Returns the property `name` as a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, String> {
        self.text(name)?
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{name}: `{text}` is not a number"))
            })
            .transpose()
    }

    /// Fails if there is a property that is neither supported nor known to have no effect locally.
    pub(super) fn allow(&self, honoured: &[&str], without_effect: &[&str]) -> Result<(), String> {
        allow(&self.properties, honoured, without_effect)
    }
}

/// Fails if there is a property that is neither supported nor known to have no effect locally.
pub(super) fn allow(
    properties: &Map<String, Value>,
    honoured: &[&str],
    without_effect: &[&str],
) -> Result<(), String> {
    let known = |name: &&String| {
        honoured.contains(&name.as_str()) || without_effect.contains(&name.as_str())
    };
    match properties.keys().find(|name| !known(name)) {
        Some(name) => Err(format!(
            "the local gateway does not support the property {name}"
        )),
        None => Ok(()),
    }
}
