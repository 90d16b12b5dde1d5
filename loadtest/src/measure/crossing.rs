//! Messages between shards: one clock stamps the sending, another the receipt. The latency is known only when the
//! offset of the clocks is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::{
    histogram::{dense::Latencies, sparse::Spread},
    message::{Across, Route},
    reach::Reach,
};

/// Messages from other shards, by sending shard and type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Crossings(Vec<Crossing>);

/// Messages of one type from one other shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Crossing {
    /// The shard of the senders, from 0.
    pub from: u32,
    pub route: Route,
    #[serde(default)]
    pub reach: Option<Reach>,
    /// The time of the first one. Others are stored as differences from it, which keeps them exact however far apart the
    /// clocks are.
    base: i64,
    /// The shortest time since sending, exactly.
    pub min_micros: i64,
    due: Tally,
    as_sent: Tally,
    /// Of `as_sent`, what came when the receiver had not run for a time; and the same without that time.
    #[serde(default)]
    paused: [Tally; 2],
}

/// How often each number of microseconds occurred, to within a thousandth. Sparse: few numbers occur.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tally(BTreeMap<i64, u64>);

impl Tally {
    fn record(&mut self, micros: i64) {
        *self.0.entry(rounded(micros)).or_default() += 1;
    }

    /// Each value with how often it occurred.
    fn recorded(&self) -> impl Iterator<Item = (i64, u64)> {
        self.0.iter().map(|(micros, count)| (*micros, *count))
    }
}

/// Keeps the first eleven binary digits.
fn rounded(micros: i64) -> i64 {
    const DIGITS: u32 = 11;
    let length = u64::BITS - micros.unsigned_abs().leading_zeros();
    let rest = length.saturating_sub(DIGITS);
    (micros / (1 << rest)) << rest
}

impl Crossing {
    pub fn count(&self) -> u64 {
        self.as_sent.0.values().sum()
    }

    /// Latencies from the moment due and from sending, if the receiver's clock is `ahead_micros` ahead of the senders'.
    pub fn timed(&self, ahead_micros: i64) -> [impl Iterator<Item = (u64, u64)>; 2] {
        let zero = self.base.saturating_sub(ahead_micros);
        // A message that seems to arrive before it was sent does so only because the offset is uncertain.
        let took = move |(micros, count): (i64, u64)| {
            (zero.saturating_add(micros).max(0).unsigned_abs(), count)
        };
        [&self.due, &self.as_sent].map(|tally| tally.recorded().map(took))
    }

    /// How many took longer than `late_micros`, as the time goes that the receiver ran.
    pub fn late(&self, ahead_micros: i64, late_micros: u64) -> u64 {
        let zero = self.base.saturating_sub(ahead_micros);
        let late = i64::try_from(late_micros).unwrap_or(i64::MAX);
        let late = |tally: &Tally| -> u64 {
            let all = tally.recorded();
            let late = all.filter(|(micros, _)| zero.saturating_add(*micros) > late);
            late.map(|(_, count)| count).sum()
        };
        let [paused, ran] = &self.paused;
        late(&self.as_sent).saturating_sub(late(paused)) + late(ran)
    }
}

impl Crossings {
    pub fn add(&mut self, message: &Across) {
        let of = |from, route, reach| (from, route, reach);
        let this = of(message.from, message.route, message.reach);
        let same = |one: &&mut Crossing| of(one.from, one.route, one.reach) == this;
        let place = match self.0.iter_mut().find(same) {
            Some(place) => place,
            None => {
                self.0.push(Crossing {
                    from: message.from,
                    route: message.route,
                    reach: message.reach,
                    base: message.as_sent_micros,
                    min_micros: message.as_sent_micros,
                    due: Tally::default(),
                    as_sent: Tally::default(),
                    paused: Default::default(),
                });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        place.min_micros = place.min_micros.min(message.as_sent_micros);
        place
            .due
            .record(message.due_micros.saturating_sub(place.base));
        let as_sent = message.as_sent_micros.saturating_sub(place.base);
        place.as_sent.record(as_sent);
        if message.paused_micros > 0 {
            place.paused[0].record(as_sent);
            place.paused[1].record(as_sent.saturating_sub(message.paused_micros));
        }
    }

    /// Enters how far the messages of each shard came.
    pub fn find_reach(&mut self, of: impl Fn(u32) -> Option<Reach>) {
        for crossing in &mut self.0 {
            crossing.reach = of(crossing.from);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Crossing> {
        self.0.iter()
    }

    /// Latencies by the clocks as they are.
    pub fn raw<'a>(messages: impl IntoIterator<Item = &'a Across>) -> Spread {
        let mut latencies = Latencies::default();
        for message in messages {
            latencies.record_micros(message.due_micros.max(0).unsigned_abs(), 1);
        }
        Spread::of(&latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::books::tests::{ROUTE, books};

    #[test]
    fn clocks_an_hour_apart_cost_no_precision() {
        for ahead in [-3_600_000_000, -5_000, 0, 70, 3_600_000_000_i64] {
            let mut crossings = Crossings::default();
            for took in [400, 350, 900, 5_000] {
                crossings.add(&Across {
                    route: ROUTE,
                    reach: None,
                    from: 1,
                    due_micros: ahead + took + 20,
                    as_sent_micros: ahead + took,
                    paused_micros: 0,
                    in_order: true,
                    altered: false,
                });
            }
            let crossing = crossings.iter().next().expect("one");
            assert_eq!((crossing.count(), crossing.min_micros), (4, ahead + 350));
            let (mut books, _) = books();
            books.time(crossing, ahead, 4_000);
            let sent: Vec<_> = books.totals.as_sent.recorded().collect();
            assert_eq!(sent.len(), 4);
            for ((got, _), took) in sent.iter().zip([350_u64, 400, 900, 5_000]) {
                assert!(got.abs_diff(took) <= 1 + took / 500, "{got} is not {took}");
            }
            let due = books.totals.message.quantile_ms(0.0).expect("not empty");
            assert!((due - 0.37).abs() < 0.002, "{due}");
            assert_eq!(books.totals.messages().late, 1);
        }
    }

    #[test]
    fn what_came_while_its_receiver_did_not_run_is_late_only_without_that_time() {
        for ahead in [-3_600_000_000, 0, 3_600_000_000_i64] {
            let mut crossings = Crossings::default();
            for (took, paused) in [(2_500, 0), (2_500, 2_000), (3_500, 2_000), (400, 2_000)] {
                crossings.add(&Across {
                    route: ROUTE,
                    reach: None,
                    from: 1,
                    due_micros: ahead + took,
                    as_sent_micros: ahead + took,
                    paused_micros: paused,
                    in_order: true,
                    altered: false,
                });
            }
            let crossing = crossings.iter().next().expect("one");
            assert_eq!((crossing.late(ahead, 1_000), crossing.count()), (2, 4));
            let (mut books, _) = books();
            books.time(crossing, ahead, 1_000);
            assert_eq!(books.totals.messages().late, 2);
            let longest = books.totals.as_sent.max_ms().expect("four");
            assert!((longest - 3.5).abs() < 0.02, "the time is told as it was");
        }
    }

    #[test]
    fn numbers_are_kept_to_a_thousandth() {
        for micros in [
            0,
            1,
            -1,
            2_047,
            -2_048,
            123_456,
            -9_876_543_210,
            i64::MAX,
            i64::MIN,
        ] {
            let off = rounded(micros).abs_diff(micros);
            assert!(
                off <= micros.unsigned_abs() / 1_000,
                "{micros} is off by {off}"
            );
        }
    }

    #[test]
    fn nothing_comes_before_it_is_sent() {
        let mut crossings = Crossings::default();
        crossings.add(&Across {
            route: ROUTE,
            reach: None,
            from: 1,
            due_micros: 50,
            as_sent_micros: 50,
            paused_micros: 0,
            in_order: true,
            altered: false,
        });
        let (mut books, _) = books();
        crossings.iter().for_each(|one| books.time(one, 80, 1));
        assert_eq!(books.totals.message.max_ms(), Some(0.0));
    }
}
