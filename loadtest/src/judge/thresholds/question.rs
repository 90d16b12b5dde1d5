//! What a threshold asks, and how counts, latencies and gauges answer it.

use crate::{
    measure::{
        books::{Books, Names},
        histogram::{dense::Latencies, sparse::Spread},
        reach::Reach,
        series::Cell,
        slice::{RouteCounts, calls::CallCounts},
        talk::WordCounts,
    },
    plan::threshold::{Statistic, Threshold},
    record::Drift,
};

/// A threshold, and what its measurement needs besides books or windows.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub threshold: &'a Threshold,
    pub names: &'a Names,
    /// The books are those of one shard: other shards know where its messages went.
    pub shard: bool,
    /// Known at the end of a run that is long enough.
    pub drift: &'a [Drift],
}

impl Question<'_> {
    /// The lower end of the 95 % interval of a figure's rise, in percent of where it began, per hour. `None`: the run is
    /// too short to know.
    pub(super) fn certain_growth(&self, figure: &str) -> Option<f64> {
        let drift = self.drift.iter().find(|drift| drift.figure == figure)?;
        let certain = (drift.per_hour - drift.uncertainty).max(0.0);
        (drift.first > 0.0).then(|| certain * 100.0 / drift.first)
    }

    pub(super) fn latency(&self, latencies: &Latencies) -> Option<f64> {
        match self.threshold.statistic {
            Statistic::Quantile(q) => latencies.quantile_ms(q),
            Statistic::Max => latencies.max_ms(),
            Statistic::Mean => latencies.mean_ms(),
            _ => Some(latencies.count() as f64),
        }
    }

    pub(super) fn spread(&self, spread: &Spread) -> Option<f64> {
        match self.threshold.statistic {
            Statistic::Quantile(q) => spread.quantile_ms(q),
            Statistic::Max => spread.max_ms(),
            Statistic::Mean => spread.mean_ms(),
            _ => Some(spread.count() as f64),
        }
    }

    /// Those of `all` whose name the threshold asks for.
    pub(super) fn named<'a, T>(
        &'a self,
        all: &'a [T],
        names: &'a [String],
    ) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let of = self.threshold.of.as_deref();
        let named = all.iter().zip(names);
        named.filter_map(move |(one, name)| of.is_none_or(|of| of == name).then_some(one))
    }

    pub(super) fn calls<'a>(
        &'a self,
        books: &'a Books,
    ) -> impl Iterator<Item = &'a CallCounts> + use<'a> {
        self.named(&books.totals.calls, &self.names.calls)
    }

    pub(super) fn count(&self, books: &Books, count: u64) -> Option<f64> {
        if self.threshold.statistic != Statistic::Rate {
            return Some(count as f64);
        }
        let end = books.series.cells().next_back()?.end();
        Some(count as f64 / end.as_secs_f64().max(1e-3))
    }

    pub(super) fn count_in(&self, window: &Cell, count: u64) -> Option<f64> {
        if self.threshold.statistic != Statistic::Rate {
            return Some(count as f64);
        }
        Some(count as f64 / window.length.as_secs_f64().max(1e-3))
    }

    /// Counts faults of messages. `None`: no message came that could have had one.
    pub(super) fn messages(&self, books: &Books, of: fn(&RouteCounts) -> u64) -> Option<f64> {
        let all = books.totals.messages();
        let came = all.received + all.misdelivered() > 0 || of(&all) > 0;
        came.then(|| self.count(books, of(&all))).flatten()
    }

    /// Counts of words. `None`: nobody spoke.
    pub(super) fn words(&self, books: &Books, of: fn(&WordCounts) -> u64) -> Option<f64> {
        let words = &books.totals.talk.words;
        (words.chunks > 0)
            .then(|| self.count(books, of(words)))
            .flatten()
    }

    /// Counts of words in transcripts. `None`: none was compared.
    pub(super) fn in_transcripts(&self, books: &Books, of: fn(&WordCounts) -> u64) -> Option<f64> {
        let compared = books.totals.talk.words.settled.transcripts > 0;
        compared.then(|| self.words(books, of)).flatten()
    }

    /// Counts of answers. `None`: no export was compared with what was answered.
    pub(super) fn answers(&self, books: &Books, of: fn(&WordCounts) -> u64) -> Option<f64> {
        let words = &books.totals.talk.words;
        (words.exports > 0)
            .then(|| self.count(books, of(words)))
            .flatten()
    }

    /// Counts faults of matches. `None`: nobody was matched.
    pub(super) fn matches(&self, books: &Books, count: u64) -> Option<f64> {
        let matched = books.totals.people.rooms_joined > 0 || count > 0;
        matched.then(|| self.count(books, count)).flatten()
    }

    /// From a search to its match, of rooms of this reach that are settled. `None`: there is one server.
    pub(super) fn match_latency(&self, books: &Books, reach: Reach) -> Option<f64> {
        let pairs = books.pairs(reach)?;
        self.latency(&pairs.matching)
    }

    /// Counts rooms of this reach that are settled. `None`: there is one server.
    pub(super) fn pairs(&self, books: &Books, reach: Reach) -> Option<f64> {
        let pairs = books.pairs(reach)?;
        self.count(books, pairs.rooms)
    }

    /// From the loss of a server until those who lost a partner by it were matched again. While some are not, it is longer
    /// than the time since.
    pub(super) fn matched_again(&self, books: &Books) -> Option<f64> {
        let now = books.series.cells().next_back()?.end();
        let waiting = books
            .nodes
            .losses
            .iter()
            .filter(|loss| loss.not_matched() > 0);
        let longest = waiting.map(|loss| now.saturating_sub(loss.from).as_secs_f64() * 1e3);
        let longest = longest.reduce(f64::max);
        let longer = longest.filter(|waited| *waited > self.threshold.limit);
        longer.or_else(|| self.latency(&books.after_losses()[1]))
    }

    pub(super) fn gauge<'a>(
        &self,
        cells: impl IntoIterator<Item = &'a Cell>,
        of: fn(&Cell) -> Option<f64>,
    ) -> Option<f64> {
        let weighed = |cell: &Cell| Some((of(cell)?, cell.length.as_secs_f64()));
        let mut values: Vec<(f64, f64)> = cells.into_iter().filter_map(weighed).collect();
        let whole: f64 = values.iter().map(|(_, seconds)| seconds).sum();
        match self.threshold.statistic {
            Statistic::Last => values.last().map(|(value, _)| *value),
            Statistic::Mean => {
                let sum: f64 = values.iter().map(|(value, seconds)| value * seconds).sum();
                (whole > 0.0).then(|| sum / whole)
            }
            Statistic::Quantile(q) => {
                values.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut below = 0.0;
                let reached = |(_, seconds): &&(f64, f64)| {
                    below += seconds;
                    below >= q * whole
                };
                values.iter().find(reached).map(|(value, _)| *value)
            }
            _ => values.iter().map(|(value, _)| *value).reduce(f64::max),
        }
    }

    /// The time until 99 % of the dropped users were matched again. While they are not, it is longer than the time
    /// since the drop: that fails a threshold as soon as it is beyond the limit.
    pub(super) fn recovery(&self, books: &Books) -> Option<f64> {
        let recovery = books.recovery()?;
        let now = books.series.cells().next_back()?.end();
        let waited = now.as_secs_f64() * 1e3 - recovery.dropped_at_ms;
        let longer = (waited > self.threshold.limit).then_some(waited);
        recovery.matched_99_percent_ms.or(longer)
    }
}
