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
pub enum Sort {
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
    pub const ALL: [(&'static str, Self, Sort); 31] = [
        ("connect_latency", Self::ConnectLatency, Sort::Latency),
        ("match_latency", Self::MatchLatency, Sort::Latency),
        ("message_latency", Self::MessageLatency, Sort::Latency),
        (
            "message_latency_as_sent",
            Self::MessageLatencyAsSent,
            Sort::Latency,
        ),
        ("own_lateness", Self::OwnLateness, Sort::Latency),
        ("call_latency", Self::CallLatency, Sort::Latency),
        ("connection_success", Self::ConnectionSuccess, Sort::Success),
        ("match_success", Self::MatchSuccess, Sort::Success),
        ("message_success", Self::MessageSuccess, Sort::Success),
        ("call_success", Self::CallSuccess, Sort::Success),
        ("flow_success", Self::FlowSuccess, Sort::Success),
        ("errors", Self::Errors, Sort::Count),
        ("drops", Self::Drops, Sort::Count),
        ("matches", Self::Matches, Sort::Count),
        ("messages", Self::Messages, Sort::Count),
        ("misdelivered", Self::Misdelivered, Sort::Count),
        ("lost", Self::Lost, Sort::Count),
        ("late", Self::Late, Sort::Count),
        ("duplicate", Self::Duplicate, Sort::Count),
        ("reordered", Self::Reordered, Sort::Count),
        ("wrong_peer", Self::WrongPeer, Sort::Count),
        ("altered", Self::Altered, Sort::Count),
        ("one_sided", Self::OneSided, Sort::Count),
        ("double_matches", Self::DoubleMatches, Sort::Count),
        ("self_matches", Self::SelfMatches, Sort::Count),
        ("server_rss", Self::ServerRss, Sort::Memory),
        ("server_cpu", Self::ServerCpu, Sort::Cpu),
        ("server_fds", Self::ServerFds, Sort::Gauge),
        ("generator_rss", Self::GeneratorRss, Sort::Memory),
        ("generator_cpu", Self::GeneratorCpu, Sort::Cpu),
        ("recovery", Self::Recovery, Sort::Time),
    ];

    fn entry(self) -> (&'static str, Sort) {
        let found = Self::ALL.iter().find(|(_, metric, _)| *metric == self);
        found.map_or(("", Sort::Count), |(name, _, sort)| (*name, *sort))
    }

    pub fn name(self) -> &'static str {
        self.entry().0
    }

    pub fn sort(self) -> Sort {
        self.entry().1
    }

    /// Told by the server of itself.
    pub fn is_of_server(self) -> bool {
        matches!(self, Self::ServerRss | Self::ServerCpu | Self::ServerFds)
    }

    /// Measured on two users, who may be in different shares of a run.
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
        !matches!(self.sort(), Sort::Count | Sort::Time)
            && !matches!(self, Self::CallSuccess | Self::FlowSuccess)
            || matches!(
                self,
                Self::Errors | Self::Drops | Self::Matches | Self::Messages | Self::Misdelivered
            )
    }
}

/// The unit of a statistic, by its name in a record.
pub fn unit(sort: Sort, statistic: Statistic) -> &'static str {
    match (sort, statistic) {
        (_, Statistic::Rate) => "per_second",
        (_, Statistic::Count) | (Sort::Count | Sort::Gauge, _) => "count",
        (Sort::Latency | Sort::Time, _) => "ms",
        (Sort::Success | Sort::Cpu, _) => "percent",
        (Sort::Memory, _) => "bytes",
    }
}
