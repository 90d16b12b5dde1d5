//! The metrics, and their units.

use super::Statistic;

/// What kind of figure a metric is: which statistics it has, and in what unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// In milliseconds.
    Latency,
    /// One time for the whole run, in milliseconds.
    Time,
    /// In percent.
    Success,
    Count,
    /// In bytes.
    Memory,
    /// In percent of one core.
    Cpu,
    /// A number that rises and falls.
    Gauge,
    /// One number for the whole run.
    Number,
    /// In percent per hour.
    Growth,
}

/// Special properties of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trait {
    /// Not kept for windows of time: `over` is refused.
    RunOnly,
    /// One for each call or flow, with `{NAME}`.
    ByName,
    /// Measured on two users, who may be in different shards of a run.
    Partners,
    /// Reported by the server about itself.
    Server,
    /// May look wrong until both sides of a room have reported.
    Settles,
    /// Only a run of some minutes has it.
    LongRun,
    /// Of what may not happen in a run.
    Chance,
}

/// Makes the metrics from a table: a row has the variant, the name in a threshold, the kind, and the special
/// properties. The only other `match` over metrics is in `judge::thresholds::measure`.
macro_rules! metrics {
    ($($metric:ident $name:literal $kind:ident $($special:ident)*;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric { $($metric),* }

        impl Metric {
            pub const ALL: &[Self] = &[$(Self::$metric),*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$metric => $name),* }
            }

            pub fn kind(self) -> MetricKind {
                match self { $(Self::$metric => MetricKind::$kind),* }
            }

            fn special(self) -> &'static [Trait] {
                match self { $(Self::$metric => &[$(Trait::$special),*]),* }
            }
        }
    };
}

metrics! {
    ConnectLatency       "connect_latency"         Latency;
    MatchLatency         "match_latency"           Latency;
    MessageLatency       "message_latency"         Latency Partners;
    MessageLatencyAsSent "message_latency_as_sent" Latency Partners;
    LocalMatchLatency    "local_match_latency"     Latency Partners RunOnly;
    RemoteMatchLatency   "remote_match_latency"    Latency Partners RunOnly;
    LocalMessageLatency  "local_message_latency"   Latency Partners;
    RemoteMessageLatency "remote_message_latency"  Latency Partners;
    LocalPairs           "local_pairs"             Count   Partners RunOnly Settles;
    RemotePairs          "remote_pairs"            Count   Partners RunOnly Settles;
    NodesLost            "nodes_lost"              Count   RunOnly;
    NodeChanges          "node_changes"            Count   RunOnly;
    LostWithNode         "lost_with_node"          Count   Partners RunOnly Settles;
    ToldOfLoss           "told_of_loss"            Latency RunOnly Chance;
    MatchedAgain         "matched_again"           Latency RunOnly Chance;
    OwnLateness          "own_lateness"            Latency;
    CallLatency          "call_latency"            Latency ByName;
    ConnectionSuccess    "connection_success"      Success;
    MatchSuccess         "match_success"           Success;
    MessageSuccess       "message_success"         Success Partners;
    SetupSuccess         "setup_success"           Success Partners RunOnly;
    CallSuccess          "call_success"            Success ByName RunOnly;
    FlowSuccess          "flow_success"            Success ByName RunOnly;
    Errors               "errors"                  Count;
    Drops                "drops"                   Count;
    Matches              "matches"                 Count;
    Messages             "messages"                Count;
    Misdelivered         "misdelivered"            Count   Partners;
    Lost                 "lost"                    Count   Partners RunOnly Settles;
    Late                 "late"                    Count   Partners RunOnly;
    Duplicate            "duplicate"               Count   Partners RunOnly;
    Reordered            "reordered"               Count   Partners RunOnly;
    WrongPeer            "wrong_peer"              Count   Partners RunOnly;
    Altered              "altered"                 Count   Partners RunOnly;
    OneSided             "one_sided"               Count   RunOnly Settles;
    DoubleMatches        "double_matches"          Count   RunOnly;
    SelfMatches          "self_matches"            Count   RunOnly;
    ServerRss            "server_rss"              Memory  Server;
    ServerCpu            "server_cpu"              Cpu     Server;
    ServerFds            "server_fds"              Gauge   Server;
    GeneratorRss         "generator_rss"           Memory;
    GeneratorCpu         "generator_cpu"           Cpu;
    Recovery             "recovery"                Time    RunOnly;
    Failover             "failover"                Latency RunOnly Chance;
    HeardAgain           "heard_again"             Latency RunOnly Chance;
    Moved                "moved"                   Latency RunOnly Chance;
    MoveSuccess          "move_success"            Success RunOnly Chance;
    ResumeSuccess        "resume_success"          Success RunOnly Chance;
    AudioAckLatency      "audio_ack_latency"       Latency RunOnly;
    PartialLatency       "partial_latency"         Latency RunOnly;
    FinalLatency         "final_latency"           Latency RunOnly;
    StoredLatency        "stored_latency"          Latency RunOnly;
    FanOut               "fan_out"                 Latency RunOnly;
    WordSuccess          "word_success"            Success RunOnly;
    WordsLost            "words_lost"              Count   RunOnly;
    WordsTwice           "words_twice"             Count   RunOnly;
    WordsMisdelivered    "words_misdelivered"      Count   RunOnly;
    WordsNotStored       "words_not_stored"        Count   RunOnly;
    Transcripts          "transcripts"             Count   RunOnly;
    AudioGaps            "audio_gaps"              Count   RunOnly;
    Answers              "answers"                 Count   RunOnly;
    AnswersMissing       "answers_missing"         Count   RunOnly;
    AnswersTwice         "answers_twice"           Count   RunOnly;
    WordsInGaps          "words_in_gaps"           Count   RunOnly;
    WordsAltered         "words_altered"           Count   RunOnly;
    WordsWronglyStored   "words_wrongly_stored"    Count   RunOnly;
    ServerQueue          "server_queue"            Gauge   Server;
    ServerSpill          "server_spill"            Memory  Server;
    ServerRssDrift       "server_rss_drift"        Growth  Server RunOnly LongRun;
    CommitsPer1000Finals "commits_per_1000_finals" Number  Server RunOnly;
    AudioBilled          "audio_billed"            Number  Server RunOnly;
    ProviderErrors       "provider_errors"         Count   Server RunOnly;
    ProviderLatency      "provider_latency"        Time    Server RunOnly;
    DatabaseLatency      "database_latency"        Time    Server RunOnly;
    FlushErrors          "flush_errors"            Count   Server RunOnly;
}

impl Metric {
    /// Reported by the server about itself.
    pub fn is_of_server(self) -> bool {
        self.special().contains(&Trait::Server)
    }

    /// Measured on two users, who may be in different shards of a run.
    pub fn needs_partners(self) -> bool {
        self.special().contains(&Trait::Partners)
    }

    pub fn is_by_name(self) -> bool {
        self.special().contains(&Trait::ByName)
    }

    /// Kept for each window of time.
    pub fn has_windows(self) -> bool {
        !self.special().contains(&Trait::RunOnly)
    }

    /// May be asked for `if measured`.
    pub fn may_be_missing(self) -> bool {
        self.is_of_server() || self.special().contains(&Trait::Chance)
    }

    /// Of what may not happen in a run.
    pub fn may_not_happen(self) -> bool {
        self.special().contains(&Trait::Chance)
    }

    /// Only a run of some minutes has it.
    pub fn needs_a_long_run(self) -> bool {
        self.special().contains(&Trait::LongRun)
    }

    /// May look wrong until both sides of a room have reported.
    pub fn settles(self) -> bool {
        self.special().contains(&Trait::Settles)
    }
}

/// The unit of a statistic, by its name in a record.
pub fn unit(kind: MetricKind, statistic: Statistic) -> &'static str {
    match (kind, statistic) {
        (_, Statistic::Rate) => "per_second",
        (_, Statistic::Count) | (MetricKind::Count | MetricKind::Gauge | MetricKind::Number, _) => {
            "count"
        }
        (MetricKind::Latency | MetricKind::Time, _) => "ms",
        (MetricKind::Success | MetricKind::Cpu, _) => "percent",
        (MetricKind::Memory, _) => "bytes",
        (MetricKind::Growth, _) => "percent_per_hour",
    }
}
