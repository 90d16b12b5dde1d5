//! Line charts, one above another, as one SVG that needs nothing else.

use std::fmt::Write;

use crate::{stats::Spread, table::number};

/// Measures of the picture.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 52.0;
const PANEL: f64 = 210.0;
/// Inside a panel: where its plot begins and how high it is.
const HEAD: f64 = 34.0;
const PLOT: f64 = 122.0;

const HOLLOW: &str = "hollow: in every repetition something else used the generator's CPU; latency is an upper bound";

const STYLE: &str = "
    text { font: 12px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 15px; font-weight: 600 }
    .name { font-size: 13px; font-weight: 600 }
    .paper { fill: #ffffff }
    .grid { stroke: #d1d9e0; stroke-width: 1 }
    .axis { stroke: #59636e; stroke-width: 1 }
    .line { fill: none; stroke: #0969da; stroke-width: 2; stroke-linejoin: round }
    .range { stroke: #0969da; stroke-width: 1.5 }
    .dot { fill: #0969da; stroke: #0969da; stroke-width: 1.5 }
    .disturbed { fill: #ffffff }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .paper { fill: #0d1117 }
      .grid { stroke: #30363d }
      .axis { stroke: #9198a1 }
      .line, .range { stroke: #58a6ff }
      .dot { fill: #58a6ff; stroke: #58a6ff }
      .disturbed { fill: #0d1117 }
    }
";

/// One chart.
#[derive(Debug)]
pub(crate) struct Panel {
    /// What it shows.
    pub(crate) title: &'static str,
    /// The unit of its vertical axis.
    pub(crate) unit: &'static str,
    /// From left to right.
    pub(crate) points: Vec<Point>,
}

/// A measured point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Where it stands.
    pub(crate) x: f64,
    /// How high, and the range of the repetitions.
    pub(crate) y: Spread,
    /// Whether something else used the generator's CPU in every repetition: drawn hollow.
    pub(crate) disturbed: bool,
}

/// The whole picture. `across` names the horizontal axis; `made_by` is the command that makes it.
pub(crate) fn chart(title: &str, across: &str, made_by: &str, panels: &[Panel]) -> String {
    let height = TOP + PANEL * panels.len() as f64;
    let disturbed = panels
        .iter()
        .flat_map(|panel| &panel.points)
        .any(|p| p.disturbed);
    let note = if disturbed { HOLLOW } else { "" };
    let title = escaped(title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title made-by\">\n\
         <title id=\"title\">{title}</title>\n<desc id=\"made-by\">Made by: {}</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n\
         <text x=\"{LEFT}\" y=\"42\">{note}</text>\n",
        escaped(made_by)
    );
    for (i, panel) in panels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<g transform=\"translate(0 {})\">",
            TOP + PANEL * i as f64
        );
        draw(&mut svg, panel, across);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

// Writing into a string cannot fail.
fn draw(svg: &mut String, panel: &Panel, across: &str) {
    let right = WIDTH - RIGHT;
    let bottom = HEAD + PLOT;
    let xs = ticks(panel.points.iter().map(|p| p.x).fold(0.0, f64::max));
    let ys = ticks(panel.points.iter().map(|p| p.y.max).fold(0.0, f64::max));
    let x = |value: f64| LEFT + (right - LEFT) * value / xs.last().copied().unwrap_or(1.0);
    let y = |value: f64| bottom - PLOT * value / ys.last().copied().unwrap_or(1.0);

    let _ = writeln!(
        svg,
        "<text class=\"name\" x=\"{LEFT}\" y=\"{}\">{}, {}</text>",
        HEAD - 14.0,
        escaped(panel.title),
        escaped(panel.unit)
    );
    for value in &ys {
        let (at, class) = (y(*value), if *value == 0.0 { "axis" } else { "grid" });
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            label(*value)
        );
    }
    for value in &xs {
        let at = x(*value);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 5.0,
            bottom + 19.0,
            label(*value)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, right),
        bottom + 36.0,
        escaped(across)
    );
    let line: Vec<_> = panel
        .points
        .iter()
        .map(|p| format!("{:.1},{:.1}", x(p.x), y(p.y.median)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline class=\"line\" points=\"{}\"/>",
        line.join(" ")
    );
    for p in &panel.points {
        let dot = if p.disturbed { "dot disturbed" } else { "dot" };
        let (px, py) = (x(p.x), y(p.y.median));
        let _ = writeln!(
            svg,
            "<g><title>{} {}: {} {}</title><line class=\"range\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{:.1}\" \
             y2=\"{:.1}\"/><circle class=\"{dot}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\"/></g>",
            label(p.x),
            escaped(across),
            number(p.y.median),
            escaped(panel.unit),
            y(p.y.min),
            y(p.y.max),
        );
    }
}

/// Round values from 0 to at least `max`, four to seven of them.
fn ticks(max: f64) -> Vec<f64> {
    if !max.is_finite() || max <= 0.0 {
        return vec![0.0, 1.0];
    }
    let power = 10_f64.powf((max / 5.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|step| max / step <= 5.0)
        .unwrap_or(power * 10.0);
    let mut ticks = vec![0.0];
    while ticks.last().is_some_and(|last| *last < max * 0.999_999) {
        ticks.push(step * ticks.len() as f64);
    }
    ticks
}

/// A round value, without the digits it does not need.
fn label(value: f64) -> String {
    if value >= 1000.0 && value.fract() == 0.0 {
        let text = format!("{value:.0}");
        let (head, tail) = text.split_at(text.len() - 3);
        return format!("{head},{tail}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64) -> Point {
        Point {
            x,
            disturbed: y > 8.0,
            y: Spread {
                median: y,
                min: y * 0.9,
                max: y * 1.1,
            },
        }
    }

    #[test]
    fn ticks_are_round_and_reach_over_the_end() {
        assert_eq!(ticks(18_000.0), [0.0, 5000.0, 10_000.0, 15_000.0, 20_000.0]);
        assert_eq!(ticks(1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        for max in [0.003, 0.7, 1.1, 42.0, 99.0, 5e6] {
            let ticks = ticks(max);
            assert!(
                (3..=7).contains(&ticks.len()) && ticks.last() >= Some(&max),
                "{max}: {ticks:?}"
            );
        }
    }

    #[test]
    fn labels_have_no_needless_digits() {
        let labels = [0.0, 0.6000000000000001, 2.5, 5000.0, 18_000.0].map(label);
        assert_eq!(labels, ["0", "0.6", "2.5", "5,000", "18,000"]);
    }

    #[test]
    fn the_picture_is_whole() {
        let points = vec![point(100.0, 7.0), point(18_000.0, 40.0)];
        let panel = || Panel {
            title: "Memory",
            unit: "MiB",
            points: points.clone(),
        };
        let svg = chart(
            "A & B",
            "users",
            "bench --server 'a <b>'",
            &[panel(), panel(), panel()],
        );
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("A &amp; B") && svg.contains("a &lt;b&gt;"));
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
        assert_eq!(svg.matches("dot disturbed").count(), 3, "40 is");
        assert!(svg.contains(HOLLOW));
        assert!(svg.contains("prefers-color-scheme: dark") && svg.contains("Memory, MiB"));
        // Nothing is drawn outside.
        for at in svg.split("cx=\"").skip(1) {
            let at: f64 = at
                .split('"')
                .next()
                .and_then(|at| at.parse().ok())
                .unwrap_or(-1.0);
            assert!((LEFT..=WIDTH - RIGHT).contains(&at), "{at}");
        }
    }

    #[test]
    fn a_panel_without_points_is_still_drawn() {
        let svg = chart(
            "t",
            "users",
            "c",
            &[Panel {
                title: "m",
                unit: "u",
                points: vec![],
            }],
        );
        assert!(svg.contains("points=\"\"") && !svg.contains("NaN"));
    }
}
