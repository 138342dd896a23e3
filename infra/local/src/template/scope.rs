//! What intrinsic functions and conditions may refer to.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::parameters::parameter;
use super::values::scalar;

/// The deepest chain of references. A deeper one must be a circle.
const DEEPEST: u32 = 64;

/// The parameters, conditions, mappings and resources of a template.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) parameters: BTreeMap<&'a str, Value>,
    pub(super) conditions: Option<&'a Map<String, Value>>,
    pub(super) mappings: Option<&'a Map<String, Value>>,
    pub(super) resources: &'a Map<String, Value>,
    depth: Cell<u32>,
}

impl<'a> Scope<'a> {
    /// Creates the scope of `document`. `given` overrides its parameters.
    pub(super) fn new(
        document: &'a Value,
        resources: &'a Map<String, Value>,
        given: &BTreeMap<String, String>,
        region: &'a str,
    ) -> Result<Self, String> {
        let empty = Map::new();
        let declared = document.get("Parameters").and_then(Value::as_object);
        if let Some(name) = given
            .keys()
            .find(|name| !declared.unwrap_or(&empty).contains_key(*name))
        {
            return Err(format!("the template has no parameter `{name}`"));
        }
        let mut parameters = BTreeMap::new();
        for (name, declaration) in declared.into_iter().flatten() {
            // The template's metadata may set local defaults. A given value takes precedence.
            let here = document.pointer("/Metadata/LocalGateway/Parameters");
            let here = here.and_then(|here| scalar(here.get(name)?));
            let given = given.get(name).or(here.as_ref());
            parameters.insert(name.as_str(), parameter(name, declaration, given)?);
        }
        Ok(Self {
            region,
            parameters,
            conditions: document.get("Conditions").and_then(Value::as_object),
            mappings: document.get("Mappings").and_then(Value::as_object),
            resources,
            depth: Cell::new(0),
        })
    }

    /// Returns every resource of the template.
    pub(super) fn resources(&self) -> &'a Map<String, Value> {
        self.resources
    }

    /// Runs `inner` one level deeper in the chain of references. Fails beyond `DEEPEST` levels.
    pub(super) fn deeper<T>(&self, inner: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.depth.set(self.depth.get() + 1);
        let result = if self.depth.get() > DEEPEST {
            Err("its references form a circle".to_owned())
        } else {
            inner()
        };
        self.depth.set(self.depth.get() - 1);
        result
    }
}
