//! `Events` of a function: routes of HTTP APIs and schedules.

use serde_json::Value;

use super::resource::{Resource, allow};
use super::values::scalar;
use super::{HttpRoute, Schedule, Template, apis};

/// Properties of schedules that have no effect locally: names, roles, retries and dead-letter queues.
const WITHOUT_EFFECT: [&str; 5] = [
    "DeadLetterConfig",
    "Description",
    "Name",
    "RetryPolicy",
    "RoleArn",
];

/// One event of a function.
struct Event<'a> {
    name: &'a str,
    function: &'a Resource<'a>,
    value: &'a Value,
}

/// Adds the event `name` of a function.
pub(super) fn add(
    template: &mut Template,
    function: &Resource<'_>,
    name: &str,
    value: &Value,
) -> Result<(), String> {
    let event = Event {
        name,
        function,
        value,
    };
    let kind = value.get("Type").and_then(Value::as_str);
    match kind.unwrap_or_default() {
        "HttpApi" => template.http_routes.push(event.route()?),
        "Schedule" => template.schedules.extend(event.of_rule()?),
        "ScheduleV2" => template.schedules.extend(event.of_scheduler()?),
        kind => {
            return Err(format!(
                "the local gateway does not support events of type `{kind}`"
            ));
        }
    }
    Ok(())
}

impl Event<'_> {
    fn route(&self) -> Result<HttpRoute, String> {
        self.allow(
            &["ApiId", "Auth", "Method", "PayloadFormatVersion", "Path"],
            &["RouteSettings"],
        )?;
        // 2.0 is SAM's default.
        if let Some(version) = self.text("PayloadFormatVersion")
            && version != "2.0"
        {
            return Err(format!(
                "the local gateway supports only PayloadFormatVersion 2.0, not {version}"
            ));
        }
        if let Some(auth) = self.property("Auth") {
            apis::check_auth(auth, "Authorizer", &[])?;
        }
        let scope = self.function.scope;
        let api_id = self
            .text("ApiId")
            .unwrap_or_else(|| scope.http_api_id("ServerlessHttpApi"));
        let method = self.text("Method");
        Ok(HttpRoute {
            method: method.map_or_else(|| "ANY".to_owned(), |method| method.to_uppercase()),
            path: self.text("Path").unwrap_or_else(|| "$default".to_owned()),
            function: self.function.id.to_owned(),
            stage: scope.http_api_stage(&api_id)?,
            api_id,
        })
    }

    fn of_rule(&self) -> Result<Option<Schedule>, String> {
        self.allow(&["Enabled", "Input", "Schedule", "State"], &WITHOUT_EFFECT)?;
        if self.text("Enabled").as_deref() == Some("false") {
            return Ok(None);
        }
        self.schedule("Schedule", "aws.events")
    }

    fn of_scheduler(&self) -> Result<Option<Schedule>, String> {
        // A flexible time window begins at the scheduled time. The local gateway invokes the function at that time.
        let without_effect = [
            &WITHOUT_EFFECT[..],
            &[
                "FlexibleTimeWindow",
                "KmsKeyArn",
                "OmitName",
                "PermissionsBoundary",
            ],
        ];
        self.allow(
            &[
                "Input",
                "ScheduleExpression",
                "ScheduleExpressionTimezone",
                "State",
            ],
            &without_effect.concat(),
        )?;
        if let Some(zone) = self.text("ScheduleExpressionTimezone")
            && zone != "UTC"
        {
            return Err(format!(
                "the local gateway supports schedules only in UTC, not in {zone}"
            ));
        }
        self.schedule("ScheduleExpression", "aws.scheduler")
    }

    fn schedule(&self, expression: &str, source: &'static str) -> Result<Option<Schedule>, String> {
        if self.text("State").as_deref() == Some("DISABLED") {
            return Ok(None);
        }
        let expression = self
            .text(expression)
            .ok_or_else(|| format!("{expression} is missing"))?;
        Ok(Some(Schedule {
            name: self.name.to_owned(),
            function: self.function.id.to_owned(),
            expression,
            input: self.text("Input"),
            source,
        }))
    }

    fn property(&self, name: &str) -> Option<&Value> {
        self.value.get("Properties")?.get(name)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.property(name).and_then(scalar)
    }

    /// Fails if the event has a property that is neither supported nor known to have no effect locally.
    fn allow(&self, honoured: &[&str], without_effect: &[&str]) -> Result<(), String> {
        match self.value.get("Properties").and_then(Value::as_object) {
            Some(properties) => allow(properties, honoured, without_effect),
            None => Ok(()),
        }
    }
}
