//! Turns a scenario file into a plan.

use std::{collections::BTreeSet, fmt::Display};

use toml::Spanned;

use super::{
    BUILT_IN, Wrong,
    file::{File, FlowTable, PhaseTable, SearchTable, StepText},
    http::saved_names,
    steps::Messages,
};
use crate::plan::{
    CapacitySearch, Greeting, Load, Phase, Plan,
    flow::{Flow, FlowError},
    threshold::ThresholdError,
};

pub(super) fn plan(text: &str) -> Result<Plan, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Wrong::new(at, error.message())
    })?;
    let mut plan = Plan::of_phases(phases(&file.phase)?);
    plan.name = name(file.name.get_ref(), file.name.span().start)?;
    plan.description = file.description.unwrap_or_default().replace('\n', " ");
    if let Some(greeting) = file.greeting {
        plan.greeting = match greeting.as_str() {
            "none" => Greeting::None,
            _ => Greeting::Type(greeting),
        };
    }
    if let Some(transport) = &file.transport {
        let read = transport.get_ref().parse();
        plan.transports = read.map_err(|what: String| Wrong::new(transport.span().start, what))?;
    }
    plan.resume = file.resume.unwrap_or(false);
    if file.resume == Some(false) && plan.resumes() {
        let at = file.transport.as_ref().map_or(0, |text| text.span().start);
        let what = "sessions over sse and poll always go on when a connection is lost: take `resume = false` out";
        return Err(Wrong::new(at, what));
    }
    let timeouts = [
        (&mut plan.connect_timeout, file.timeouts.connect),
        (&mut plan.match_timeout, file.timeouts.matching),
        (&mut plan.message_timeout, file.timeouts.message),
    ];
    for (timeout, given) in timeouts {
        *timeout = given.map_or(*timeout, |given| given.0);
    }
    plan.search = file.search.as_ref().map(|table| search(table.get_ref()));
    plan.percent_of_capacity = file.percent_of_capacity.map(|fraction| fraction.0);
    for name in file.then {
        let at = name.span().start;
        let name = name.into_inner();
        if !BUILT_IN.iter().any(|(known, _)| *known == name) {
            return Err(Wrong::new(
                at,
                format!("there is no built-in scenario {name:?}"),
            ));
        }
        plan.then.push(name);
    }
    let saved = saved_names(file.flow.iter().map(Spanned::get_ref));
    let messages = Messages::new(&file.message, &file.variables, saved)?;
    if !file.flow.is_empty() {
        let flows = file.flow.iter();
        let flows = flows.map(|table| flow(table, &messages, &plan.greeting));
        plan.flows = flows.collect::<Result<_, _>>()?;
        let names = file.flow.iter();
        twice(names.map(|table| (table.get_ref().name.as_str(), table.span().start)))?;
    }
    for text in &file.thresholds {
        let wrong = |error: &dyn Display| Wrong::new(text.span().start, error);
        let threshold = text.get_ref().parse();
        plan.thresholds
            .push(threshold.map_err(|error: ThresholdError| wrong(&error))?);
        plan.check_names().map_err(|error| wrong(&error))?;
    }
    plan.check().map_err(|error| {
        let first = file.phase.first().map_or(0, |phase| phase.span().start);
        let search = file.search.as_ref().map(|table| table.span().start);
        Wrong::new(search.unwrap_or(first), error)
    })?;
    Ok(plan)
}

/// A name that fits into a line of a report.
fn name(given: &str, at: usize) -> Result<String, Wrong> {
    const MAX_LENGTH: usize = 100;
    if given.trim().is_empty() || given.len() > MAX_LENGTH || given.contains(char::is_control) {
        let what = format!("a name has 1 to {MAX_LENGTH} bytes, and no control characters");
        return Err(Wrong::new(at, what));
    }
    Ok(given.to_owned())
}

/// Names are unique: rows of a report have no other label.
fn twice<'a>(names: impl Iterator<Item = (&'a str, usize)>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for (name, at) in names {
        if !seen.insert(name) {
            let what = format!("there is another {name:?} before: give each a name of its own");
            return Err(Wrong::new(at, what));
        }
    }
    Ok(())
}

fn search(table: &SearchTable) -> CapacitySearch {
    CapacitySearch {
        from: table.from,
        to: table.to,
        factor: table.factor.unwrap_or(2.0),
        precision_percent: table.precision.map_or(10.0, |fraction| fraction.0),
    }
}

fn phases(tables: &[Spanned<PhaseTable>]) -> Result<Vec<Phase>, Wrong> {
    let mut phases = Vec::new();
    let mut users = 0;
    for (index, table) in tables.iter().enumerate() {
        let at = table.span().start;
        let phase = phase(index, table.get_ref(), &mut users);
        let phase = phase.map_err(|what| Wrong::new(at, what))?;
        name(&phase.name, at)?;
        phases.push(phase);
    }
    let places = tables.iter().map(|table| table.span().start);
    twice(phases.iter().map(|phase| phase.name.as_str()).zip(places))?;
    Ok(phases)
}

fn phase(index: usize, phase: &PhaseTable, users: &mut u32) -> Result<Phase, String> {
    let load = match (phase.users, phase.arrival_rate, phase.ramp_to) {
        (Some(to), None, None) => {
            let from = std::mem::replace(users, to);
            Load::Users { from, to }
        }
        (None, Some(from), to) => Load::Arrivals {
            from: from.0,
            to: to.unwrap_or(from).0,
        },
        (None, None, _) => {
            return Err(
                "a phase needs a load: give `users` (how many there are at its end) or `arrival_rate` (how \
                 many come each second)"
                    .to_owned(),
            );
        }
        (Some(_), _, _) => {
            return Err(
                "a phase has `users` or an `arrival_rate`, not both: take one out".to_owned(),
            );
        }
    };
    let name = phase.name.clone();
    let phase = Phase {
        name: name.unwrap_or_else(|| format!("phase {}", index + 1)),
        duration: phase.duration.0,
        load,
        drop_percent: phase.drop.map_or(0.0, |fraction| fraction.0),
        blocked: phase
            .block
            .as_ref()
            .map_or(Vec::new(), |list| list.0.clone()),
    };
    if phase.duration.is_zero() && phase.holds() {
        return Err(
            "a phase without a duration and without new users does nothing: give it a longer `duration`"
                .to_owned(),
        );
    }
    phase.check().map_err(|error| error.to_string())?;
    Ok(phase)
}

fn flow(
    table: &Spanned<FlowTable>,
    messages: &Messages<'_>,
    greeting: &Greeting,
) -> Result<Flow, Wrong> {
    let given = table.get_ref();
    name(&given.name, table.span().start)?;
    let mut flow = Flow::new(&given.name, messages.steps(&given.steps)?);
    flow.weight = given.weight.unwrap_or(1);
    flow.rematch = given.rematch.unwrap_or(true);
    flow.reconnect = given.reconnect.unwrap_or(false);
    flow.check(greeting).map_err(|error: FlowError| {
        let at = place(&given.steps, &error.steps);
        Wrong::new(at.unwrap_or(table.span().start), error.what)
    })?;
    Ok(flow)
}

/// The place in the file of the step at this path.
fn place(steps: &[Spanned<StepText>], path: &[usize]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let step = steps.get(*first)?;
    let inner = match step.get_ref() {
        StepText::Table(table) => table.steps.as_deref(),
        StepText::Word(_) => None,
    };
    let deeper = inner.and_then(|inner| place(inner, rest));
    Some(deeper.unwrap_or(step.span().start))
}
