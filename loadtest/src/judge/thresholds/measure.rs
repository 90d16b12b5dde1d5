//! How each metric is measured: of the run as a whole, exactly; of a window of time, to three percent.

use super::question::Question;
use crate::{
    base::units::percent_of,
    measure::{
        books::Books,
        histogram::{dense::Latencies, sparse::Spread},
        reach::Reach,
        series::Cell,
        slice::RouteCounts,
        talk::WordCounts,
    },
    plan::threshold::{Metric, Statistic},
    record::ServerTranscription,
};

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
        Metric::LocalMatchLatency => (|q, books| q.match_latency(books, Reach::Local), None),
        Metric::RemoteMatchLatency => (|q, books| q.match_latency(books, Reach::Remote), None),
        Metric::LocalMessageLatency => (
            |q, books| q.latency(&books.totals.reach[Reach::Local as usize]),
            Some(|q, window| q.spread(&window.reach[Reach::Local as usize])),
        ),
        Metric::RemoteMessageLatency => (
            |q, books| q.latency(&books.totals.reach[Reach::Remote as usize]),
            Some(|q, window| q.spread(&window.reach[Reach::Remote as usize])),
        ),
        Metric::LocalPairs => (|q, books| q.pairs(books, Reach::Local), None),
        Metric::RemotePairs => (|q, books| q.pairs(books, Reach::Remote), None),
        Metric::NodesLost => (
            |q, books| {
                let several = books.nodes.several();
                several
                    .then(|| q.count(books, books.nodes.losses.len() as u64))
                    .flatten()
            },
            None,
        ),
        Metric::NodeChanges => (
            |q, books| {
                let changed = books.nodes.all.iter().map(|node| node.counts.changed).sum();
                let several = books.nodes.several();
                several.then(|| q.count(books, changed)).flatten()
            },
            None,
        ),
        Metric::LostWithNode => (
            |q, books| {
                let lost = books.ledger.total().with_node;
                let several = books.nodes.several();
                several.then(|| q.count(books, lost)).flatten()
            },
            None,
        ),
        Metric::ToldOfLoss => (|q, books| q.latency(&books.after_losses()[0]), None),
        Metric::MatchedAgain => (|q, books| q.matched_again(books), None),
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
            |q, books| {
                let dropped = books.totals.people.dropped;
                q.count(books, dropped.saturating_sub(books.excused().dropped))
            },
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
            |q, books| {
                let any = q.messages(books, RouteCounts::misdelivered);
                let all = books.totals.messages();
                let misdelivered = all.misdelivered() - all.duplicate + books.duplicates();
                any.and_then(|_| q.count(books, misdelivered))
            },
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
        Metric::Duplicate => (
            |q, books| {
                let any = q.messages(books, |all| all.duplicate);
                any.and_then(|_| q.count(books, books.duplicates()))
            },
            None,
        ),
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
                percent_of(moved, moved + books.not_moved())
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
            |q, books| q.in_transcripts(books, |words| words.settled.not_stored),
            None,
        ),
        Metric::WordsInGaps => (
            |q, books| q.words(books, |words| words.settled.in_gaps),
            None,
        ),
        Metric::WordsAltered => (|q, books| q.words(books, WordCounts::altered), None),
        Metric::WordsWronglyStored => (
            |q, books| q.in_transcripts(books, |words| words.settled.wrongly_stored),
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
                Statistic::Max => Some(transcription(books)?.queue_peak as f64),
                _ => q.gauge(books.series.cells(), server_queue),
            },
            Some(|q, window| q.gauge([window], server_queue)),
        ),
        Metric::ServerSpill => (
            |q, books| match q.threshold.statistic {
                Statistic::Max => Some(transcription(books)?.spill_peak_bytes as f64),
                _ => q.gauge(books.series.cells(), server_spill),
            },
            Some(|q, window| q.gauge([window], server_spill)),
        ),
        Metric::ServerRssDrift => (|q, _| q.certain_growth("server_rss_bytes"), None),
        Metric::CommitsPer1000Finals => (
            |_, books| transcription(books)?.commits_per_1000_finals,
            None,
        ),
        Metric::AudioBilled => (
            |_, books| {
                let said = books.totals.talk.words.audio_ms as f64 / 1e3;
                let billed = transcription(books)?.billed_seconds;
                (said > 0.0).then(|| billed / said)
            },
            None,
        ),
        Metric::ProviderErrors => (
            |_, books| Some(transcription(books)?.provider_errors as f64),
            None,
        ),
        Metric::ProviderLatency => (|_, books| transcription(books)?.provider_mean_ms, None),
        Metric::DatabaseLatency => (|_, books| transcription(books)?.commit_mean_ms, None),
        Metric::FlushErrors => (
            |_, books| Some(transcription(books)?.flush_errors as f64),
            None,
        ),
        Metric::ResumeSuccess => (
            |_, books| {
                let failover = &books.totals.failover;
                let resumed = failover.all_resumed().count();
                percent_of(resumed, resumed + books.not_resumed())
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
    Some(cell.now.transcribing()?.queue as f64)
}

fn server_spill(cell: &Cell) -> Option<f64> {
    Some(cell.now.transcribing()?.spill_bytes as f64)
}

/// What the server said of its storage and its provider, if it transcribes.
fn transcription(books: &Books) -> Option<ServerTranscription> {
    books.server.to_record()?.transcription
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
