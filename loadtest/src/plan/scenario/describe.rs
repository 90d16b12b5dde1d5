//! A plan in words, as `loadtest check` shows it.

use std::fmt::Write as _;

use humantime::format_duration;

use super::BUILT_IN;
use crate::{
    base::units::{decimal, rate_in_words},
    plan::{Load, Plan},
};

/// The plan's phases, flows and thresholds.
pub fn describe(plan: &Plan) -> String {
    let mut text = match plan.description.as_str() {
        "" => format!("{}\n", plan.name),
        described => format!("{}: {described}\n", plan.name),
    };
    if let Some(search) = &plan.search {
        let _ = writeln!(
            text,
            "search    {} to {} users, to within {} %",
            search.from, search.to, search.precision_percent
        );
    }
    if let Some(percent) = plan.percent_of_capacity {
        let _ = writeln!(text, "load      {percent} % of the capacity");
    }
    if plan.resumes() {
        let _ = writeln!(
            text,
            "transport {}; sessions outlive their connections",
            plan.transports.name()
        );
    }
    for (begin, phase) in plan.phases_with_begin() {
        let load = match phase.load {
            Load::Users { from, to } if from == to => format!("{to} users"),
            Load::Users { from, to } => format!("{from} to {to} users"),
            Load::Arrivals { from, to } => arrivals(from, to),
        };
        let dropped = match phase.drop_percent {
            0.0 => String::new(),
            percent => format!(", of whom {percent} % are dropped at once"),
        };
        let names: Vec<_> = phase.blocked.iter().map(|one| one.name()).collect();
        let blocked = match &names[..] {
            [] => String::new(),
            names => format!(", whose network blocks {}", names.join(" and ")),
        };
        let _ = writeln!(
            text,
            "phase     {:<16} from {:<8} for {:<8} {load}{dropped}{blocked}",
            phase.name,
            format_duration(begin).to_string(),
            format_duration(phase.duration).to_string(),
        );
    }
    let _ = writeln!(text, "in all    {}", format_duration(plan.end()));
    for flow in &plan.flows {
        let _ = writeln!(text, "flow      {} (weight {})", flow.name, flow.weight);
    }
    for threshold in plan.thresholds_or_defaults() {
        let _ = writeln!(text, "threshold {threshold}");
    }
    if !plan.then.is_empty() {
        let _ = writeln!(text, "then      {}", plan.then.join(", "));
    }
    text
}

fn arrivals(from: f64, to: f64) -> String {
    let ([begin, end], time) = rate_in_words([from, to]);
    match (decimal(begin), decimal(end)) {
        (_, one) if from == to && one == "1" => format!("1 user arrives each {time}"),
        (_, end) if from == to => format!("{end} users arrive each {time}"),
        (begin, end) => format!("{begin} to {end} users arrive each {time}"),
    }
}

/// The built-in scenarios, a line or two each.
pub fn list() -> String {
    let mut text = String::new();
    for (name, file) in BUILT_IN {
        let description =
            super::read(file, name).map_or_else(|e| e.to_string(), |plan| plan.description);
        let _ = writeln!(text, "{name}\n    {description}");
    }
    text
}
