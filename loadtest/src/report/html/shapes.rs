//! What is drawn without a time axis: funnel, staircase, and the intervals of a comparison.

use std::fmt::Write as _;

use super::escape;
use crate::{
    base::units::{self, count, value_or_dash},
    record::{Capacity, CapacityStep, ComparedFigure, Comparison, Record},
    report::figures,
};

/// From what was tried to what went well.
pub(super) fn funnel(record: &Record) -> String {
    let mut out =
        String::from("<section class=\"card narrow\"><h2>Funnel</h2><ol class=\"funnel\">");
    for step in figures::funnel(record) {
        let fraction = if step.of == 0 {
            0.0
        } else {
            step.count as f64 / step.of as f64 * 100.0
        };
        let first = if step.count == step.of && step.rest.is_empty() {
            " whole"
        } else {
            ""
        };
        let _ = write!(
            out,
            "<li class=\"step{first}\"><span class=\"name\">{}</span><span class=\"bar\"><i style=\"width:{fraction:.2}%\"></i></span>\
             <b>{}</b><span class=\"share\">{}</span><span class=\"rest\">{}</span></li>",
            step.name,
            count(step.count),
            units::percent(fraction),
            escape(&step.rest)
        );
    }
    out.push_str("</ol></section>");
    out
}

/// The loads that a search for the breaking point tried, one bar each.
pub(super) fn staircase(capacity: &Capacity) -> String {
    let most = capacity
        .steps
        .iter()
        .map(|step| step.users)
        .max()
        .unwrap_or(0)
        .max(1);
    let interval = match capacity.breaks {
        Some(breaks) => format!(
            "<b>{}</b> users hold, <b>{}</b> do not",
            count(capacity.holds),
            count(breaks)
        ),
        None => format!(
            "at least <b>{}</b> users: the breaking point was not reached",
            count(capacity.holds)
        ),
    };
    let mut out =
        format!("<section class=\"card\"><h2>Breaking point</h2><p class=\"lead\">{interval}</p>");
    if let Some(what) = &capacity.gave_out {
        let _ = write!(out, "<p>Gave out first: {}</p>", escape(what));
    }
    out.push_str("<div class=\"stairs\">");
    let _ = write!(
        out,
        "<i class=\"holds\" style=\"bottom:{:.1}%\"></i>",
        capacity.holds as f64 / most as f64 * 100.0
    );
    for step in &capacity.steps {
        stair(&mut out, step, most);
    }
    out.push_str("</div><div class=\"kinds\">");
    for step in &capacity.steps {
        let _ = write!(out, "<span>{}</span>", escape(&step.kind));
    }
    out.push_str("</div></section>");
    out
}

fn stair(out: &mut String, step: &CapacityStep, most: u64) {
    let (class, held) = if step.held {
        ("held", "held")
    } else {
        ("broke", "broke")
    };
    let about = format!(
        "{} {} users: {held}; match p95 {}, message p99 {}, CPU {}{}{}",
        step.kind,
        count(step.users),
        value_or_dash(step.match_p95_ms, "ms"),
        value_or_dash(step.message_p99_ms, "ms"),
        value_or_dash(step.server_cpu_percent, "percent"),
        if step.failed.is_empty() {
            ""
        } else {
            "; failed: "
        },
        step.failed.join(", ")
    );
    let _ = write!(
        out,
        "<div class=\"stair {class}\" style=\"height:{:.1}%\" title=\"{}\"><b>{}</b><em>{}</em></div>",
        step.users as f64 / most as f64 * 100.0,
        escape(&about),
        super::chart::short_value(step.users as f64, "count"),
        match step.held {
            _ if step.users * 5 < most => "",
            true => "✓",
            false => "✕",
        }
    );
}

/// A table of figures, each with the interval of its change.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let result = if comparison.regression {
        "<span class=\"chip bad\">worse</span>"
    } else {
        "<span class=\"chip good\">not worse</span>"
    };
    let mut out = format!(
        "<section class=\"card\"><h2>Against {} {result}</h2><p class=\"note\">Started {}. Figures of a typical window; the bar is the \
         95 % interval of the change, with allowance for autocorrelation, from half to double. A figure is worse when \
         the whole interval lies beyond what counts as a change at all.</p>",
        escape(&comparison.baseline),
        escape(&comparison.baseline_started_at)
    );
    for caveat in &comparison.caveats {
        let _ = write!(out, "<p class=\"caveat\">{}</p>", escape(caveat));
    }
    out.push_str(
        "<div class=\"scroll\"><table class=\"compared\"><thead><tr><th>Figure<th class=\"n\">Baseline<th class=\"n\">This run\
         <th class=\"change\">Change<th>Judgement</tr></thead><tbody>",
    );
    for figure in &comparison.figures {
        compared(&mut out, figure);
    }
    out.push_str("</tbody></table></div></section>");
    out
}

fn compared(out: &mut String, figure: &ComparedFigure) {
    let class = match figure.judgement.as_str() {
        "worse" => "bad",
        "better" => "good",
        _ => "plain",
    };
    let interval = figure.ratio_interval.map_or_else(String::new, |[low, high]| {
        let (from, to) = (on_scale(low), on_scale(high));
        format!(
            "<span class=\"interval {class}\" title=\"{} to {}\"><i style=\"left:{from:.1}%;width:{:.1}%\"></i></span>",
            units::change(low),
            units::change(high),
            (to - from).max(1.0)
        )
    });
    let ratio = match (figure.baseline, figure.current) {
        (Some(baseline), Some(current)) if baseline > 0.0 => units::change(current / baseline),
        _ => "–".to_owned(),
    };
    let _ = write!(
        out,
        "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"change\"><span class=\"n\">{ratio}</span>{interval}\
         <td><span class=\"chip {class}\">{}</span></tr>",
        escape(&figure.name.replace('_', " ")),
        value_or_dash(figure.baseline, &figure.unit),
        value_or_dash(figure.current, &figure.unit),
        escape(&figure.judgement)
    );
}

/// A ratio on a logarithmic scale from a half to two, in percent.
fn on_scale(ratio: f64) -> f64 {
    (50.0 + ratio.max(1e-3).log2() * 50.0).clamp(0.0, 100.0)
}
