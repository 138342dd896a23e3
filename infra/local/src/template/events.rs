//! `Events` of a function: routes of HTTP APIs, and schedules.

use serde_json::Value;

use super::intrinsics::scalar;
use super::resources::{Resource, allow};
use super::{HttpRoute, Schedule, Template, apis};

/// What says how a schedule's target is reached, and what becomes of what could not be delivered.
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
                "the local gateway cannot stand in for events of type `{kind}`"
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
        // SAM's own default is 2.0.
        if let Some(version) = self.text("PayloadFormatVersion")
            && version != "2.0"
        {
            return Err(format!(
                "the local gateway has events of PayloadFormatVersion 2.0 alone, not {version}"
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
        // A flexible window begins when the schedule says, and there the local gateway invokes.
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
                "the local gateway keeps schedules in UTC alone, not in {zone}"
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
            .ok_or_else(|| format!("it has no {expression}"))?;
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

    /// Refuses properties that are neither honoured nor known to mean nothing locally.
    fn allow(&self, honoured: &[&str], without_effect: &[&str]) -> Result<(), String> {
        match self.value.get("Properties").and_then(Value::as_object) {
            Some(properties) => allow(properties, honoured, without_effect),
            None => Ok(()),
        }
    }
}
