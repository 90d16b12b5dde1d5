//! The funnel: connections, searches, messages and calls, each from what was tried to what went well.

use super::{row, table};
use crate::{
    base::units::{count, percent},
    record::{Call, Connections, Delivery, Matches, Record},
    report::{
        document::{
            Bar, Cell,
            Column::{Number, Text},
            Section,
        },
        figures,
    },
};

/// One group of the funnel: its steps with their counts, the first of which is the whole, and what became
/// of the rest.
type Group<'a> = Vec<(&'a str, u64, Vec<(u64, &'a str)>)>;

/// What nobody tried is left out.
pub(in crate::report) fn funnel(record: &Record) -> Section {
    let messages = figures::delivery(record);
    let groups = [
        connections(&record.connections),
        searches(&record.matches),
        deliveries(&messages),
        calls(&record.calls),
    ];
    let groups = groups.into_iter().filter(|steps| steps[0].1 > 0);
    let rows = groups.flat_map(|steps| {
        let whole = steps[0].1 as f64;
        steps.into_iter().map(move |(name, reached, rest)| {
            let fraction = reached as f64 / whole;
            let percent = percent(fraction * 100.0);
            let bar = Cell::with_bar(percent, Some(Bar::Fraction(fraction)));
            row![name, reached, bar, counted(&rest)]
        })
    });
    let columns = [
        Text(""),
        Number("count"),
        Number("reached"),
        Text("the rest"),
    ];
    table("Funnel", &columns, rows)
}

fn connections(connections: &Connections) -> Group<'_> {
    let Connections {
        attempted,
        succeeded,
        dropped,
        lost_with_node,
        reconnects,
        ..
    } = *connections;
    let failed = attempted.saturating_sub(succeeded);
    let stayed = succeeded.saturating_sub(dropped + lost_with_node);
    vec![
        (
            "tried to connect",
            attempted,
            vec![(reconnects, "of them again")],
        ),
        ("connected", succeeded, vec![(failed, "not connected")]),
        (
            "stayed connected",
            stayed,
            vec![
                (dropped, "dropped"),
                (lost_with_node, "lost with their node"),
            ],
        ),
    ]
}

fn searches(matches: &Matches) -> Group<'_> {
    let rest = vec![
        (matches.failed, "failed"),
        (matches.pending, "pending"),
        (matches.odd_one_out, "odd one out"),
        (matches.one_sided, "one-sided"),
        (matches.double, "double"),
        (matches.self_matches, "with themselves"),
    ];
    let again = vec![(matches.rematches, "of them again")];
    vec![
        ("searched for a partner", matches.searches, again),
        ("matched", matches.matched, rest),
    ]
}

fn deliveries(messages: &Delivery) -> Group<'_> {
    let rest = vec![
        (messages.lost, "lost"),
        (messages.lost_with_node, "lost with their node"),
        (messages.undeliverable, "to users who had left"),
        (messages.pending, "pending"),
        (messages.unknown, "unknown"),
    ];
    let in_time = messages.delivered.saturating_sub(messages.late);
    vec![
        ("messages sent", messages.sent, vec![]),
        ("delivered", messages.delivered, rest),
        ("delivered in time", in_time, vec![(messages.late, "late")]),
    ]
}

fn calls(calls: &[Call]) -> Group<'_> {
    let sum = |of: fn(&Call) -> u64| calls.iter().map(of).sum();
    let rest = vec![
        (sum(|call| call.timed_out), "timed out"),
        (sum(|call| call.wrong), "wrong"),
        (sum(|call| call.failed), "failed"),
        (sum(|call| call.pending), "pending"),
    ];
    vec![
        ("calls sent", sum(|call| call.sent), vec![]),
        ("answered", sum(|call| call.answered), rest),
    ]
}

/// `3 lost, 1 pending`: what was counted at least once.
fn counted(parts: &[(u64, &str)]) -> String {
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts = parts.map(|(number, what)| format!("{} {what}", count(*number)));
    parts.collect::<Vec<_>>().join(", ")
}
