//! What can be measured, and in what unit.

use super::Statistic;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    ConnectLatency,
    MatchLatency,
    MessageLatency,
    MessageLatencyAsSent,
    OwnLateness,
    CallLatency,
    ConnectionSuccess,
    MatchSuccess,
    MessageSuccess,
    CallSuccess,
    FlowSuccess,
    Errors,
    Drops,
    Matches,
    Messages,
    Misdelivered,
    Lost,
    Late,
    Duplicate,
    Reordered,
    WrongPeer,
    Altered,
    OneSided,
    DoubleMatches,
    SelfMatches,
    ServerRss,
    ServerCpu,
    ServerFds,
    GeneratorRss,
    GeneratorCpu,
    Recovery,
}

/// What kind of figure a metric is: which statistics it has, and in what unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// In milliseconds.
    Latency,
    /// Of the run as a whole, in milliseconds.
    Time,
    /// In percent.
    Success,
    Count,
    /// In bytes.
    Memory,
    /// In percent of one core.
    Cpu,
    /// A number that goes up and down.
    Gauge,
}

impl Metric {
    pub const ALL: [(&'static str, Self, MetricKind); 31] = [
        ("connect_latency", Self::ConnectLatency, MetricKind::Latency),
        ("match_latency", Self::MatchLatency, MetricKind::Latency),
        ("message_latency", Self::MessageLatency, MetricKind::Latency),
        (
            "message_latency_as_sent",
            Self::MessageLatencyAsSent,
            MetricKind::Latency,
        ),
        ("own_lateness", Self::OwnLateness, MetricKind::Latency),
        ("call_latency", Self::CallLatency, MetricKind::Latency),
        (
            "connection_success",
            Self::ConnectionSuccess,
            MetricKind::Success,
        ),
        ("match_success", Self::MatchSuccess, MetricKind::Success),
        ("message_success", Self::MessageSuccess, MetricKind::Success),
        ("call_success", Self::CallSuccess, MetricKind::Success),
        ("flow_success", Self::FlowSuccess, MetricKind::Success),
        ("errors", Self::Errors, MetricKind::Count),
        ("drops", Self::Drops, MetricKind::Count),
        ("matches", Self::Matches, MetricKind::Count),
        ("messages", Self::Messages, MetricKind::Count),
        ("misdelivered", Self::Misdelivered, MetricKind::Count),
        ("lost", Self::Lost, MetricKind::Count),
        ("late", Self::Late, MetricKind::Count),
        ("duplicate", Self::Duplicate, MetricKind::Count),
        ("reordered", Self::Reordered, MetricKind::Count),
        ("wrong_peer", Self::WrongPeer, MetricKind::Count),
        ("altered", Self::Altered, MetricKind::Count),
        ("one_sided", Self::OneSided, MetricKind::Count),
        ("double_matches", Self::DoubleMatches, MetricKind::Count),
        ("self_matches", Self::SelfMatches, MetricKind::Count),
        ("server_rss", Self::ServerRss, MetricKind::Memory),
        ("server_cpu", Self::ServerCpu, MetricKind::Cpu),
        ("server_fds", Self::ServerFds, MetricKind::Gauge),
        ("generator_rss", Self::GeneratorRss, MetricKind::Memory),
        ("generator_cpu", Self::GeneratorCpu, MetricKind::Cpu),
        ("recovery", Self::Recovery, MetricKind::Time),
    ];

    fn entry(self) -> (&'static str, MetricKind) {
        let found = Self::ALL.iter().find(|(_, metric, _)| *metric == self);
        found.map_or(("", MetricKind::Count), |(name, _, sort)| (*name, *sort))
    }

    pub fn name(self) -> &'static str {
        self.entry().0
    }

    pub fn sort(self) -> MetricKind {
        self.entry().1
    }

    /// Told by the server of itself.
    pub fn is_of_server(self) -> bool {
        matches!(self, Self::ServerRss | Self::ServerCpu | Self::ServerFds)
    }

    /// Measured on two users, who may be in different shards of a run.
    pub fn needs_partners(self) -> bool {
        matches!(
            self,
            Self::MessageLatency
                | Self::MessageLatencyAsSent
                | Self::MessageSuccess
                | Self::Lost
                | Self::Misdelivered
                | Self::Duplicate
                | Self::Reordered
                | Self::WrongPeer
                | Self::Altered
                | Self::Late
        )
    }

    pub fn is_by_name(self) -> bool {
        matches!(
            self,
            Self::CallLatency | Self::CallSuccess | Self::FlowSuccess
        )
    }

    /// Kept for each window of time.
    pub fn has_windows(self) -> bool {
        !matches!(self.sort(), MetricKind::Count | MetricKind::Time)
            && !matches!(self, Self::CallSuccess | Self::FlowSuccess)
            || matches!(
                self,
                Self::Errors | Self::Drops | Self::Matches | Self::Messages | Self::Misdelivered
            )
    }
}

/// The unit of a statistic, by its name in a record.
pub fn unit(sort: MetricKind, statistic: Statistic) -> &'static str {
    match (sort, statistic) {
        (_, Statistic::Rate) => "per_second",
        (_, Statistic::Count) | (MetricKind::Count | MetricKind::Gauge, _) => "count",
        (MetricKind::Latency | MetricKind::Time, _) => "ms",
        (MetricKind::Success | MetricKind::Cpu, _) => "percent",
        (MetricKind::Memory, _) => "bytes",
    }
}
