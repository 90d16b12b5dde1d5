//! A summary and its verdict, rendered. Everything is computed before; nothing is decided here.

mod json;
mod text;

pub use json::json;
pub use text::text;

/// The shares of latencies that are shown, each with its name.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
];

#[cfg(test)]
mod tests;
