//! The part of a run in which its users were there: after the ramp, before the farewell.

use crate::record::{Record, Window};

/// The share of the largest number of users from which on a window counts.
const FULL: f64 = 0.9;

/// The windows of a run in which nearly all of its users were connected, but for the first of them, in which
/// the ramp still shows.
pub fn windows(record: &Record) -> impl Iterator<Item = &Window> + Clone {
    let windows = &record.series.windows;
    let peak = windows.iter().map(|window| window.connected).max();
    let full = peak.unwrap_or(0) as f64 * FULL;
    windows
        .iter()
        .filter(move |window| window.connected > 0 && window.connected as f64 >= full)
        .skip(1)
}
