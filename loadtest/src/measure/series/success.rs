//! What succeeded in one window.

use super::Counts;
use crate::measure::books::percent;

impl Counts {
    /// Users who connected and stayed connected, in percent of the connections that came about or failed: what is
    /// under way is neither. `None`: there was none.
    pub fn connection_success(&self) -> Option<f64> {
        let stayed = self.connects.saturating_sub(self.drops);
        percent(stayed, self.connects + self.failed_connects)
    }

    /// Searches with a partner, in percent of those that could have had one. `None`: there was none.
    pub fn match_success(&self) -> Option<f64> {
        percent(self.matches, self.matches + self.failed_matches)
    }

    /// Messages that came, in percent of those that came or were found to be lost: what is under way is neither.
    /// `None`: there was none.
    pub fn message_success(&self) -> Option<f64> {
        let lost = u64::try_from(self.lost).unwrap_or(0);
        percent(self.delivered, self.delivered.saturating_add(lost))
    }
}
