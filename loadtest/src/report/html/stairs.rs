//! The loads that a search for capacity tried, one bar each.

use maud::{Markup, html};

use super::chart::short_value;
use crate::record::{CapacityStep, Record};

pub(super) fn draw(record: &Record) -> Markup {
    let Some(capacity) = &record.capacity else {
        return Markup::default();
    };
    let users = capacity.steps.iter().map(|step| step.users);
    let most = users.max().unwrap_or(0).max(1);
    let height = |users: u64| users as f64 / most as f64 * 100.0;
    html! {
        div.stairs {
            i.holds style=(format!("bottom:{:.1}%", height(capacity.holds))) {}
            @for step in &capacity.steps {
                div class={ "stair " (if step.held { "held" } else { "broke" }) }
                    style=(format!("height:{:.1}%", height(step.users))) {
                    b { (short_value(step.users as f64, "count")) }
                    em { (sign(step, height(step.users))) }
                }
            }
        }
        div.kinds { @for step in &capacity.steps { span { (step.kind) } } }
    }
}

/// A low stair has no room for it.
fn sign(step: &CapacityStep, height: f64) -> &'static str {
    match step.held {
        _ if height < 20.0 => "",
        true => "✓",
        false => "✕",
    }
}
