//! What a threshold measures: of the run as a whole, exactly; of a window of time, to three percent.

use crate::{
    measure::{
        books::{Books, CallCounts, Latencies, Names, percent},
        series::{Cell, Spread},
    },
    plan::threshold::{Metric, Statistic, Threshold},
};

impl Threshold {
    /// `None`: nothing was measured.
    pub fn measure(&self, books: &Books, names: &Names) -> Option<f64> {
        match self.metric {
            Metric::ConnectLatency => self.of_latencies(&books.totals.connect),
            Metric::MatchLatency => self.of_latencies(&books.totals.matching),
            Metric::MessageLatency => self.of_latencies(&books.totals.message),
            Metric::MessageLatencyAsSent => self.of_latencies(&books.totals.as_sent),
            Metric::OwnLateness => self.of_latencies(&books.totals.lateness),
            Metric::CallLatency => {
                let mut all = Latencies::default();
                self.calls(books, names)
                    .for_each(|call| all.merge(&call.latency));
                self.of_latencies(&all)
            }
            Metric::ConnectionSuccess => books.connection_success(),
            Metric::MatchSuccess => books.match_success(),
            Metric::MessageSuccess => books.message_success(),
            Metric::CallSuccess => {
                let (mut answered, mut ended) = (0, 0);
                for call in self.calls(books, names) {
                    answered += call.answered;
                    ended += call.ended();
                }
                percent(answered, ended)
            }
            Metric::FlowSuccess => {
                let flows = books.totals.flows.iter().zip(&names.flows);
                let chosen = flows.filter(|(_, name)| self.is_of(name));
                let sums = chosen.map(|(ends, _)| *ends);
                let [completed, not] = sums.fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
                percent(completed, completed + not)
            }
            Metric::Recovery => self.recovery(books),
            metric if metric.is_of_server() => self.of_server(books),
            Metric::GeneratorRss | Metric::GeneratorCpu => self.of_gauges(books.series.cells()),
            _ => {
                let count = self.count(books)? as f64;
                if self.statistic == Statistic::Rate {
                    let seconds = books.series.cells().next_back()?.end().as_secs_f64();
                    return Some(count / seconds.max(1e-3));
                }
                Some(count)
            }
        }
    }

    /// Until 99 % of those who were dropped are matched again. As long as they are not it is longer than until now.
    fn recovery(&self, books: &Books) -> Option<f64> {
        let recovery = books.recovery()?;
        let now = books.series.cells().next_back()?.end();
        let waited = now.as_secs_f64() * 1e3 - recovery.dropped_at_ms;
        let longer = (waited > self.limit).then_some(waited);
        recovery.matched_99_percent_ms.or(longer)
    }

    fn calls<'a>(
        &'a self,
        books: &'a Books,
        names: &'a Names,
    ) -> impl Iterator<Item = &'a CallCounts> {
        let calls = books.totals.calls.iter().zip(&names.calls);
        calls
            .filter(|(_, name)| self.is_of(name))
            .map(|(call, _)| call)
    }

    fn is_of(&self, name: &str) -> bool {
        self.of.as_deref().is_none_or(|of| of == name)
    }

    fn of_latencies(&self, latencies: &Latencies) -> Option<f64> {
        match self.statistic {
            Statistic::Quantile(q) => latencies.quantile_ms(q),
            Statistic::Max => latencies.max_ms(),
            Statistic::Mean => latencies.mean_ms(),
            _ => Some(latencies.count() as f64),
        }
    }

    /// `None`: there was nothing that could have been miscounted, either.
    fn count(&self, books: &Books) -> Option<u64> {
        let (people, messages) = (&books.totals.people, books.totals.messages());
        let received = messages.received + messages.misdelivered();
        let of_messages = |count: u64| (received > 0 || count > 0).then_some(count);
        let of_matches = |count: u64| (people.rooms_joined > 0 || count > 0).then_some(count);
        match self.metric {
            Metric::Errors => Some(books.failures.total() + books.totals.errors.total()),
            Metric::Drops => Some(people.dropped),
            Metric::Matches => Some(people.matched),
            Metric::Messages => Some(messages.sent),
            Metric::Misdelivered => of_messages(messages.misdelivered()),
            Metric::Late => of_messages(messages.late),
            Metric::Duplicate => of_messages(messages.duplicate),
            Metric::Reordered => of_messages(messages.reordered),
            Metric::WrongPeer => of_messages(messages.wrong_peer),
            Metric::Altered => of_messages(messages.altered),
            Metric::Lost => (messages.sent > 0).then(|| books.lost()),
            Metric::OneSided => of_matches(books.ledger.one_sided_rooms),
            Metric::DoubleMatches => of_matches(books.double_matches()),
            Metric::SelfMatches => of_matches(people.self_matches),
            _ => None,
        }
    }

    fn of_server(&self, books: &Books) -> Option<f64> {
        let server = books.server.to_record()?;
        match (self.metric, self.statistic) {
            (Metric::ServerRss, Statistic::Max) => Some(server.rss_peak_bytes as f64),
            (Metric::ServerFds, Statistic::Max) => Some(server.fds_peak as f64),
            (Metric::ServerCpu, Statistic::Mean) => Some(server.cpu_percent),
            _ => self.of_gauges(books.series.cells()),
        }
    }

    fn of_gauges<'a>(&self, cells: impl DoubleEndedIterator<Item = &'a Cell>) -> Option<f64> {
        let value = |cell: &Cell| match self.metric {
            Metric::ServerRss => Some(cell.now.server?.rss_bytes as f64),
            Metric::ServerFds => Some(cell.now.server?.fds as f64),
            Metric::ServerCpu => cell.now.server_cpu_percent,
            Metric::GeneratorRss => Some(cell.now.generator_rss_bytes as f64),
            _ => Some(cell.now.generator_cpu_percent),
        };
        let weighed = |cell: &Cell| Some((value(cell)?, cell.length.as_secs_f64()));
        let mut values: Vec<(f64, f64)> = cells.filter_map(weighed).collect();
        let whole: f64 = values.iter().map(|(_, seconds)| seconds).sum();
        match self.statistic {
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

    /// Of one window of a run, or of a `shard` of one. `None`: nothing was measured in it.
    pub fn measure_window(&self, window: &Cell, names: &Names, shard: bool) -> Option<f64> {
        let counts = &window.counts;
        let seconds = window.length.as_secs_f64().max(1e-3);
        let count = match self.metric {
            Metric::ConnectLatency => return self.of_spread(&window.connect),
            Metric::MatchLatency => return self.of_spread(&window.matching),
            Metric::MessageLatency => return self.of_spread(&window.message),
            Metric::MessageLatencyAsSent => return self.of_spread(&window.as_sent),
            Metric::OwnLateness => return self.of_spread(&window.lateness),
            Metric::CallLatency => {
                let mut all = Spread::default();
                let calls = window.calls.iter().zip(&names.calls);
                let chosen = calls.filter(|(_, name)| self.is_of(name));
                chosen.for_each(|(call, _)| all.join(call));
                return self.of_spread(&all);
            }
            Metric::ConnectionSuccess => return counts.connection_success(),
            Metric::MatchSuccess => {
                return percent(counts.matches, counts.matches + counts.failed_matches);
            }
            // Where a shard's messages went, the others know.
            Metric::MessageSuccess if shard => return None,
            Metric::MessageSuccess => return counts.message_success(),
            Metric::Errors => counts.failures,
            Metric::Drops => counts.drops,
            Metric::Matches => counts.matches,
            Metric::Messages => counts.sent,
            Metric::Misdelivered => counts.misdelivered,
            _ => return self.of_gauges(std::iter::once(window)),
        };
        let rate = self.statistic == Statistic::Rate;
        Some(if rate {
            count as f64 / seconds
        } else {
            count as f64
        })
    }

    fn of_spread(&self, spread: &Spread) -> Option<f64> {
        match self.statistic {
            Statistic::Quantile(q) => spread.quantile_ms(q),
            Statistic::Max => spread.max_ms(),
            Statistic::Mean => spread.mean_ms(),
            _ => Some(spread.count() as f64),
        }
    }
}
