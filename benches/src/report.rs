//! Samples, the goals that they have to meet, and the output of both.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::proc::Load;

/// One line of the table: samples of several subjects, taken in turns in the same run.
#[derive(Debug)]
pub(crate) struct Measured {
    name: &'static str,
    what: &'static str,
    samples: Vec<Series>,
    goals: Vec<Goal>,
    load: Load,
}

#[derive(Debug)]
struct Series {
    subject: &'static str,
    metric: &'static str,
    rounds: Vec<f64>,
}

/// A goal: a bound on the ratio of two series or on a single series.
#[derive(Clone, Copy, Debug)]
struct Goal {
    series: (&'static str, &'static str),
    against: Option<(&'static str, &'static str)>,
    bound: Bound,
}

/// The bound of a goal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// Minimum, median and maximum of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Measured {
    pub(crate) fn new(name: &'static str, what: &'static str) -> Self {
        Self {
            name,
            what,
            samples: Vec::new(),
            goals: Vec::new(),
            load: Load::default(),
        }
    }

    /// Adds a round's sample.
    pub(crate) fn add(&mut self, subject: &'static str, metric: &'static str, value: f64) {
        let found = self
            .samples
            .iter_mut()
            .find(|it| it.subject == subject && it.metric == metric);
        match found {
            Some(series) => series.rounds.push(value),
            None => self.samples.push(Series {
                subject,
                metric,
                rounds: vec![value],
            }),
        }
    }

    /// Adds a goal for the ratio of two series, round by round.
    pub(crate) fn ratio(
        &mut self,
        series: (&'static str, &'static str),
        against: (&'static str, &'static str),
        bound: Bound,
    ) {
        self.goals.push(Goal {
            series,
            against: Some(against),
            bound,
        });
    }

    /// Adds a goal for a single series.
    pub(crate) fn figure(&mut self, series: (&'static str, &'static str), bound: Bound) {
        self.goals.push(Goal {
            series,
            against: None,
            bound,
        });
    }

    pub(crate) fn with_load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    fn rounds(&self, (subject, metric): (&str, &str)) -> Option<&[f64]> {
        let found = self
            .samples
            .iter()
            .find(|it| it.subject == subject && it.metric == metric);
        found.map(|it| it.rounds.as_slice())
    }

    /// Returns a goal's values, one for each round. Returns `None` if one of its series was not measured.
    fn of(&self, goal: &Goal) -> Option<Vec<f64>> {
        let rounds = self.rounds(goal.series)?;
        let Some(against) = goal.against else {
            return Some(rounds.to_vec());
        };
        let against = self.rounds(against)?;
        let ratio = |(it, other): (&f64, &f64)| it / other.max(f64::MIN_POSITIVE);
        Some(rounds.iter().zip(against).map(ratio).collect())
    }

    /// Formats the results as a text table.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("\n## {}: {}\n", self.name, self.what);
        text.push_str(&format!(
            "load {:.1}, others {:.0} % and steal {:.0} % of the CPU\n",
            self.load.average,
            self.load.others * 100.0,
            self.load.steal * 100.0
        ));
        for series in &self.samples {
            let name = format!("{}, {}", series.subject, series.metric);
            let spread = Spread::of(&series.rounds);
            text.push_str(&format!("  {name:<58} {}\n", spread.text()));
        }
        for goal in &self.goals {
            let Some(rounds) = self.of(goal) else {
                continue;
            };
            let spread = Spread::of(&rounds);
            let verdict = if goal.bound.holds(spread.median) {
                "met"
            } else {
                "MISSED"
            };
            text.push_str(&format!(
                "  = {:<56} {}  {}: {verdict}\n",
                goal.name(),
                spread.text(),
                goal.bound.text()
            ));
        }
        text
    }

    /// Formats the results as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let samples: Vec<_> = self
            .samples
            .iter()
            .map(|it| {
                let spread = Spread::of(&it.rounds);
                serde_json::json!({
                    "subject": it.subject, "metric": it.metric, "spread": spread, "rounds": it.rounds,
                })
            })
            .collect();
        let goals: Vec<_> = self
            .goals
            .iter()
            .filter_map(|goal| {
                let rounds = self.of(goal)?;
                let spread = Spread::of(&rounds);
                Some(serde_json::json!({
                    "what": goal.name(), "bound": goal.bound.text(), "spread": spread, "rounds": rounds,
                    "met": goal.bound.holds(spread.median),
                }))
            })
            .collect();
        let load = BTreeMap::from([
            ("average", self.load.average),
            ("others", self.load.others),
            ("steal", self.load.steal),
        ]);
        serde_json::json!({
            "line": self.name, "what": self.what, "load": load, "samples": samples, "goals": goals,
        })
    }
}

impl Goal {
    fn name(&self) -> String {
        let (subject, metric) = self.series;
        match self.against {
            None => format!("{subject}, {metric}"),
            Some((other, same)) if same == metric => format!("{subject} / {other}, {metric}"),
            Some((other, against)) if other == subject => {
                format!("{subject}, {metric} / {against}")
            }
            Some((other, against)) => format!("{subject}, {metric} / {other}, {against}"),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {}", number(most)),
            Self::AtLeast(least) => format!("≥ {}", number(least)),
        }
    }
}

impl Spread {
    fn of(rounds: &[f64]) -> Self {
        Self {
            min: quantile(rounds, 0.0),
            median: quantile(rounds, 0.5),
            max: quantile(rounds, 1.0),
        }
    }

    fn text(&self) -> String {
        let [min, median, max] = [self.min, self.median, self.max].map(number);
        format!("{min:>9} {median:>9} {max:>9}")
    }
}

/// Returns a quantile of the values. Returns 0 if there are none.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Formats a number with about three significant digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}
