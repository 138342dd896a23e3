//! Conditions, which depend on parameters.

use serde_json::Value;

use super::scope::Scope;
use super::values::{scalar, single};

impl Scope<'_> {
    /// Evaluates the condition `name`.
    pub(super) fn holds(&self, name: &str) -> Result<bool, String> {
        let condition = self
            .conditions
            .and_then(|conditions| conditions.get(name))
            .ok_or_else(|| format!("there is no condition `{name}`"))?;
        self.deeper(|| self.truth(condition))
    }

    fn truth(&self, condition: &Value) -> Result<bool, String> {
        let call = condition.as_object().and_then(single);
        match call {
            Some(("Condition", Value::String(name))) => self.holds(name),
            Some(("Fn::Equals", Value::Array(sides))) => match sides.as_slice() {
                [left, right] => Ok(scalar(&self.resolve(left)?) == scalar(&self.resolve(right)?)),
                _ => Err("Fn::Equals takes two values".to_owned()),
            },
            Some(("Fn::Not", Value::Array(inner))) => Ok(!self.all(inner)?),
            Some(("Fn::And", Value::Array(inner))) => self.all(inner),
            Some(("Fn::Or", Value::Array(inner))) => {
                for condition in inner {
                    if self.truth(condition)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Err(format!(
                "the local gateway cannot evaluate the condition {condition}"
            )),
        }
    }

    fn all(&self, conditions: &[Value]) -> Result<bool, String> {
        for condition in conditions {
            if !self.truth(condition)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
