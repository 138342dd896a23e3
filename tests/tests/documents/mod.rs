//! An interface document in YAML, and the validation of values against its schemas.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, anyhow};
use boon::{Compiler, Draft, SchemaIndex};
use serde_json::Value;

/// The document's name in the compiler. It is not a real location.
const NAME: &str = "memory:///document";

/// A parsed interface document.
pub(crate) struct Document(Value);

/// Compiled schemas of a document.
pub(crate) struct Schemas {
    compiler: Compiler,
    schemas: boon::Schemas,
}

impl Document {
    pub(crate) fn read(path: &str) -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let text = std::fs::read_to_string(file).with_context(|| path.to_owned())?;
        Ok(Self(serde_yaml_ng::from_str(&text)?))
    }

    /// Returns the value at a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> Result<&Value> {
        let found = self.0.pointer(pointer);
        found.with_context(|| format!("there is nothing at {pointer}"))
    }

    /// Returns the keys of the object at a JSON pointer.
    pub(crate) fn keys(&self, pointer: &str) -> Result<BTreeSet<String>> {
        let object = self.at(pointer)?.as_object();
        let object = object.with_context(|| format!("the value at {pointer} is no object"))?;
        Ok(object.keys().cloned().collect())
    }

    /// Returns a copy of the document whose objects allow only the listed fields. Readers ignore unknown fields, but the service
    /// must not send undocumented ones.
    pub(crate) fn closed(&self) -> Self {
        let mut closed = self.0.clone();
        close(&mut closed);
        Self(closed)
    }

    pub(crate) fn schemas(&self) -> Result<Schemas> {
        let mut compiler = Compiler::new();
        // AsyncAPI uses this draft. The OpenAPI schemas here have the same meaning in it.
        compiler.set_default_draft(Draft::V7);
        compiler.enable_format_assertions();
        compiler
            .add_resource(NAME, self.0.clone())
            .map_err(|error| anyhow!("{error}"))?;
        Ok(Schemas {
            compiler,
            schemas: boon::Schemas::new(),
        })
    }
}

impl Schemas {
    /// Compiles the schema at a JSON pointer.
    pub(crate) fn compile(&mut self, pointer: &str) -> Result<SchemaIndex> {
        let location = format!("{NAME}#{pointer}");
        let compiled = self.compiler.compile(&location, &mut self.schemas);
        compiled.map_err(|error| anyhow!("{pointer}: {error:#}"))
    }

    /// Checks a value against a schema.
    pub(crate) fn check(&self, schema: SchemaIndex, value: &Value) -> Result<()> {
        let checked = self.schemas.validate(value, schema);
        checked.map_err(|error| anyhow!("{value}: {error:#}"))
    }
}

fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let described = fields.get("properties").is_some_and(Value::is_object);
            if described && fields.get("type").is_some_and(|it| it == "object") {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
