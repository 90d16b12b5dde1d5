//! How each metric is measured: of the run as a whole, exactly; of a window of time, to three percent.

use crate::{
    base::units::percent_of,
    measure::{
        books::{Books, Names},
        histogram::{dense::Latencies, sparse::Spread},
        series::Cell,
        slice::{RouteCounts, calls::CallCounts},
        talk::WordCounts,
    },
    plan::threshold::{Metric, Statistic, Threshold},
};

/// A threshold, and what its measurement needs besides books or windows.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub threshold: &'a Threshold,
    pub names: &'a Names,
    /// The books are those of one shard: other shards know where its messages went.
    pub shard: bool,
}

/// Measures the run so far. `None`: nothing was measured.
type OfRun = fn(&Question, &Books) -> Option<f64>;

/// Measures one window. `None`: nothing was measured in it.
type OfWindow = fn(&Question, &Cell) -> Option<f64>;

/// The two functions of each metric. The second is missing where [`Metric::has_windows`] is false.
fn functions(metric: Metric) -> (OfRun, Option<OfWindow>) {
    match metric {
        Metric::ConnectLatency => (
            |q, books| q.latency(&books.totals.connect),
            Some(|q, window| q.spread(&window.connect)),
        ),
        Metric::MatchLatency => (
            |q, books| q.latency(&books.totals.matching),
            Some(|q, window| q.spread(&window.matching)),
        ),
        Metric::MessageLatency => (
            |q, books| q.latency(&books.totals.message),
            Some(|q, window| q.spread(&window.message)),
        ),
        Metric::MessageLatencyAsSent => (
            |q, books| q.latency(&books.totals.as_sent),
            Some(|q, window| q.spread(&window.as_sent)),
        ),
        Metric::OwnLateness => (
            |q, books| q.latency(&books.totals.lateness),
            Some(|q, window| q.spread(&window.lateness)),
        ),
        Metric::CallLatency => (
            |q, books| {
                let mut all = Latencies::default();
                q.calls(books).for_each(|call| all.merge(&call.latency));
                q.latency(&all)
            },
            Some(|q, window| {
                let mut all = Spread::default();
                let calls = q.named(&window.calls, &q.names.calls);
                calls.for_each(|call| all.join(call));
                q.spread(&all)
            }),
        ),
        Metric::ConnectionSuccess => (
            |_, books| books.connection_success(),
            Some(|_, window| window.counts.connection_success()),
        ),
        Metric::MatchSuccess => (
            |_, books| books.match_success(),
            Some(|_, window| window.counts.match_success()),
        ),
        Metric::MessageSuccess => (
            |_, books| books.message_success(),
            Some(|q, window| {
                let known = (!q.shard).then_some(&window.counts);
                known.and_then(|counts| counts.message_success())
            }),
        ),
        Metric::SetupSuccess => (|_, books| books.setup_success(), None),
        Metric::CallSuccess => (
            |q, books| {
                let ends = q.calls(books).map(|call| [call.answered, call.ended()]);
                let [answered, ended] = ends.fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
                percent_of(answered, ended)
            },
            None,
        ),
        Metric::FlowSuccess => (
            |q, books| {
                let flows = q.named(&books.totals.flows, &q.names.flows);
                let [completed, not] = flows.fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
                percent_of(completed, completed + not)
            },
            None,
        ),
        Metric::Errors => (
            |q, books| q.count(books, books.failures.total() + books.totals.errors.total()),
            Some(|q, window| q.count_in(window, window.counts.failures)),
        ),
        Metric::Drops => (
            |q, books| q.count(books, books.totals.people.dropped),
            Some(|q, window| q.count_in(window, window.counts.drops)),
        ),
        Metric::Matches => (
            |q, books| q.count(books, books.totals.people.matched),
            Some(|q, window| q.count_in(window, window.counts.matches)),
        ),
        Metric::Messages => (
            |q, books| q.count(books, books.totals.messages().sent),
            Some(|q, window| q.count_in(window, window.counts.sent)),
        ),
        Metric::Misdelivered => (
            |q, books| q.messages(books, RouteCounts::misdelivered),
            Some(|q, window| q.count_in(window, window.counts.misdelivered)),
        ),
        Metric::Lost => (
            |q, books| {
                let sent = books.totals.messages().sent > 0;
                sent.then(|| q.count(books, books.lost())).flatten()
            },
            None,
        ),
        Metric::Late => (|q, books| q.messages(books, |all| all.late), None),
        Metric::Duplicate => (|q, books| q.messages(books, |all| all.duplicate), None),
        Metric::Reordered => (|q, books| q.messages(books, |all| all.reordered), None),
        Metric::WrongPeer => (|q, books| q.messages(books, |all| all.wrong_peer), None),
        Metric::Altered => (|q, books| q.messages(books, |all| all.altered), None),
        Metric::OneSided => (
            |q, books| q.matches(books, books.ledger.one_sided_rooms),
            None,
        ),
        Metric::DoubleMatches => (|q, books| q.matches(books, books.double_matches()), None),
        Metric::SelfMatches => (
            |q, books| q.matches(books, books.totals.people.self_matches),
            None,
        ),
        Metric::ServerRss => (
            |q, books| match q.threshold.statistic {
                Statistic::Max => Some(books.server.to_record()?.rss_peak_bytes as f64),
                _ => q.gauge(books.series.cells(), server_rss),
            },
            Some(|q, window| q.gauge([window], server_rss)),
        ),
        Metric::ServerCpu => (
            |q, books| match q.threshold.statistic {
                Statistic::Mean => Some(books.server.to_record()?.cpu_percent),
                _ => q.gauge(books.series.cells(), |cell| cell.now.server_cpu_percent),
            },
            Some(|q, window| q.gauge([window], |cell| cell.now.server_cpu_percent)),
        ),
        Metric::ServerFds => (
            |q, books| match q.threshold.statistic {
                Statistic::Max => Some(books.server.to_record()?.fds_peak as f64),
                _ => q.gauge(books.series.cells(), server_fds),
            },
            Some(|q, window| q.gauge([window], server_fds)),
        ),
        Metric::GeneratorRss => (
            |q, books| q.gauge(books.series.cells(), generator_rss),
            Some(|q, window| q.gauge([window], generator_rss)),
        ),
        Metric::GeneratorCpu => (
            |q, books| q.gauge(books.series.cells(), generator_cpu),
            Some(|q, window| q.gauge([window], generator_cpu)),
        ),
        Metric::Recovery => (|q, books| q.recovery(books), None),
        Metric::Failover => (
            |q, books| q.latency(&books.totals.failover.all_resumed()),
            None,
        ),
        Metric::HeardAgain => (
            |q, books| q.latency(&books.totals.failover.heard_again),
            None,
        ),
        Metric::Moved => (|q, books| q.latency(&books.totals.failover.moved), None),
        Metric::MoveSuccess => (
            |_, books| {
                let failover = &books.totals.failover;
                let moved = failover.moved.count();
                percent_of(moved, moved + failover.not_moved)
            },
            None,
        ),
        Metric::AudioAckLatency => (|q, books| q.latency(&books.totals.talk.ack), None),
        Metric::PartialLatency => (|q, books| q.latency(&books.totals.talk.partial), None),
        Metric::FinalLatency => (|q, books| q.latency(&books.totals.talk.final_), None),
        Metric::StoredLatency => (|q, books| q.latency(&books.totals.talk.stored), None),
        Metric::FanOut => (|q, books| q.latency(&books.totals.talk.fan_out), None),
        Metric::WordSuccess => (|_, books| books.totals.talk.words.success(), None),
        Metric::WordsLost => (|q, books| q.words(books, WordCounts::lost), None),
        Metric::WordsTwice => (|q, books| q.words(books, WordCounts::twice), None),
        Metric::WordsMisdelivered => (|q, books| q.words(books, WordCounts::misdelivered), None),
        Metric::WordsNotStored => (
            |q, books| {
                let compared = books.totals.talk.words.settled.transcripts > 0;
                compared
                    .then(|| q.words(books, |words| words.settled.not_stored))
                    .flatten()
            },
            None,
        ),
        Metric::Transcripts => (
            |q, books| q.words(books, |words| words.settled.transcripts),
            None,
        ),
        Metric::AudioGaps => (|q, books| q.words(books, |words| words.gaps), None),
        Metric::Answers => (|q, books| q.answers(books, |words| words.answers), None),
        Metric::AnswersMissing => (
            |q, books| q.answers(books, |words| words.answers_missing),
            None,
        ),
        Metric::AnswersTwice => (
            |q, books| q.answers(books, |words| words.answers_twice),
            None,
        ),
        Metric::ServerQueue => (
            |q, books| match q.threshold.statistic {
                Statistic::Max => Some(books.server.to_record()?.queue_peak? as f64),
                _ => q.gauge(books.series.cells(), server_queue),
            },
            Some(|q, window| q.gauge([window], server_queue)),
        ),
        Metric::ResumeSuccess => (
            |_, books| {
                let failover = &books.totals.failover;
                let resumed = failover.all_resumed().count();
                percent_of(resumed, resumed + failover.not_resumed)
            },
            None,
        ),
    }
}

fn server_rss(cell: &Cell) -> Option<f64> {
    Some(cell.now.server?.rss_bytes as f64)
}

fn server_fds(cell: &Cell) -> Option<f64> {
    Some(cell.now.server?.fds as f64)
}

fn server_queue(cell: &Cell) -> Option<f64> {
    Some(cell.now.server?.queue? as f64)
}

fn generator_rss(cell: &Cell) -> Option<f64> {
    Some(cell.now.generator_rss_bytes as f64)
}

fn generator_cpu(cell: &Cell) -> Option<f64> {
    Some(cell.now.generator_cpu_percent)
}

impl Question<'_> {
    /// Of the run so far. `None`: nothing was measured.
    pub fn measure(&self, books: &Books) -> Option<f64> {
        functions(self.threshold.metric).0(self, books)
    }

    /// Of one window. `None`: nothing was measured in it.
    pub fn measure_window(&self, window: &Cell) -> Option<f64> {
        functions(self.threshold.metric).1?(self, window)
    }

    fn latency(&self, latencies: &Latencies) -> Option<f64> {
        match self.threshold.statistic {
            Statistic::Quantile(q) => latencies.quantile_ms(q),
            Statistic::Max => latencies.max_ms(),
            Statistic::Mean => latencies.mean_ms(),
            _ => Some(latencies.count() as f64),
        }
    }

    fn spread(&self, spread: &Spread) -> Option<f64> {
        match self.threshold.statistic {
            Statistic::Quantile(q) => spread.quantile_ms(q),
            Statistic::Max => spread.max_ms(),
            Statistic::Mean => spread.mean_ms(),
            _ => Some(spread.count() as f64),
        }
    }

    /// Those of `all` whose name the threshold asks for.
    fn named<'a, T>(
        &'a self,
        all: &'a [T],
        names: &'a [String],
    ) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let of = self.threshold.of.as_deref();
        let named = all.iter().zip(names);
        named.filter_map(move |(one, name)| of.is_none_or(|of| of == name).then_some(one))
    }

    fn calls<'a>(&'a self, books: &'a Books) -> impl Iterator<Item = &'a CallCounts> + use<'a> {
        self.named(&books.totals.calls, &self.names.calls)
    }

    fn count(&self, books: &Books, count: u64) -> Option<f64> {
        if self.threshold.statistic != Statistic::Rate {
            return Some(count as f64);
        }
        let end = books.series.cells().next_back()?.end();
        Some(count as f64 / end.as_secs_f64().max(1e-3))
    }

    fn count_in(&self, window: &Cell, count: u64) -> Option<f64> {
        if self.threshold.statistic != Statistic::Rate {
            return Some(count as f64);
        }
        Some(count as f64 / window.length.as_secs_f64().max(1e-3))
    }

    /// Counts faults of messages. `None`: no message came that could have had one.
    fn messages(&self, books: &Books, of: fn(&RouteCounts) -> u64) -> Option<f64> {
        let all = books.totals.messages();
        let came = all.received + all.misdelivered() > 0 || of(&all) > 0;
        came.then(|| self.count(books, of(&all))).flatten()
    }

    /// Counts of words. `None`: nobody spoke.
    fn words(&self, books: &Books, of: fn(&WordCounts) -> u64) -> Option<f64> {
        let words = &books.totals.talk.words;
        (words.chunks > 0)
            .then(|| self.count(books, of(words)))
            .flatten()
    }

    /// Counts of answers. `None`: no export was compared with what was answered.
    fn answers(&self, books: &Books, of: fn(&WordCounts) -> u64) -> Option<f64> {
        let words = &books.totals.talk.words;
        (words.exports > 0)
            .then(|| self.count(books, of(words)))
            .flatten()
    }

    /// Counts faults of matches. `None`: nobody was matched.
    fn matches(&self, books: &Books, count: u64) -> Option<f64> {
        let matched = books.totals.people.rooms_joined > 0 || count > 0;
        matched.then(|| self.count(books, count)).flatten()
    }

    fn gauge<'a>(
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
    fn recovery(&self, books: &Books) -> Option<f64> {
        let recovery = books.recovery()?;
        let now = books.series.cells().next_back()?.end();
        let waited = now.as_secs_f64() * 1e3 - recovery.dropped_at_ms;
        let longer = (waited > self.threshold.limit).then_some(waited);
        recovery.matched_99_percent_ms.or(longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_a_window_function_where_the_plan_lets_it_have_over() {
        for &metric in Metric::ALL {
            let has_function = functions(metric).1.is_some();
            assert_eq!(has_function, metric.has_windows(), "{}", metric.name());
        }
    }
}
