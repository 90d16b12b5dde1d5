//! Chooses the next load of a search for the capacity, and the answer. Pure.
//!
//! Steps up until a load fails. Then tries the middle between the load that held and the load that failed, until they
//! are close enough. Then confirms both ends: the load that holds, and the one that is the precision above it.
//! Servers are noisy, so an end may turn out differently; the search then goes on from there, but only a limited
//! number of times.

use crate::{base::units::whole, plan::CapacitySearch};

/// How many contradictions the search tolerates before it ends with what it has.
const MAX_REVERSALS: u32 = 3;

/// Why a load is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new highest load.
    Step,
    /// Between the load that held and the load that failed.
    Bisect,
    /// A confirmation.
    Confirm,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Bisect => "bisect",
            Self::Confirm => "confirm",
        }
    }
}

/// The next load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Try {
    pub kind: Kind,
    pub users: u32,
}

/// The answer of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The most users with whom the server held; 0: none.
    pub holds: u32,
    /// The fewest users above that with whom it failed.
    pub breaks: Option<u32>,
    /// The tries did not contradict each other more often than the search tolerates: the same load held and failed, or
    /// a larger load held than one that failed.
    pub steady: bool,
}

/// A search, and the results of its tries so far.
#[derive(Debug, Clone)]
pub(super) struct Hunt {
    search: CapacitySearch,
    /// The users of each try and whether they held, in order.
    tried: Vec<(u32, bool)>,
    /// Believed to hold; 0: none yet.
    low: u32,
    low_confirmed: bool,
    /// Believed to fail.
    high: Option<u32>,
    high_confirmed: bool,
    reversals: u32,
}

impl Hunt {
    pub(super) fn new(search: CapacitySearch) -> Self {
        Self {
            search,
            tried: Vec::new(),
            low: 0,
            low_confirmed: false,
            high: None,
            high_confirmed: false,
            reversals: 0,
        }
    }

    /// The next try. `None`: the answer is known.
    pub(super) fn next(&self) -> Option<Try> {
        if self.reversals > MAX_REVERSALS {
            return None;
        }
        let of = |kind, users| Some(Try { kind, users });
        match self.high {
            None if self.low == 0 => of(Kind::Step, self.search.from),
            None if self.low >= self.search.to => None,
            None => of(Kind::Step, self.step()),
            Some(_) if self.low == 0 => None,
            Some(high) if high - self.low > self.gap() => {
                of(Kind::Bisect, self.low + (high - self.low) / 2)
            }
            Some(_) if !self.low_confirmed => of(Kind::Confirm, self.low),
            Some(_) if !self.high_confirmed => {
                of(Kind::Confirm, (self.low + self.gap()).min(self.search.to))
            }
            Some(_) => None,
        }
    }

    /// Adds the result of the `users` that [`Hunt::next`] asked for.
    pub(super) fn tell(&mut self, users: u32, held: bool) {
        self.tried.push((users, held));
        match (held, users == self.low) {
            (true, true) => self.low_confirmed = true,
            (false, true) => {
                self.reversals += 1;
                self.high = Some(users);
                self.high_confirmed = false;
                self.low_confirmed = false;
                let held = self.tried.iter().filter(|(n, held)| *held && *n < users);
                self.low = held.map(|(n, _)| *n).max().unwrap_or(0);
            }
            (true, false) => {
                if self.high.is_some_and(|high| users >= high) {
                    self.reversals += 1;
                    self.high_confirmed = false;
                    let broke = self.tried.iter().filter(|(n, held)| !*held && *n > users);
                    self.high = broke.map(|(n, _)| *n).min();
                }
                self.low = users;
                self.low_confirmed = false;
            }
            (false, false) => {
                self.high_confirmed = self.low_confirmed;
                self.high = Some(users);
            }
        }
    }

    /// What the tries so far show.
    pub(super) fn answer(&self) -> Answer {
        if self.reversals <= MAX_REVERSALS {
            return Answer {
                holds: self.low,
                breaks: self.high,
                steady: true,
            };
        }
        // All contradictions lie in between.
        let users = |wanted: bool| {
            let tried = self.tried.iter().filter(move |(_, held)| *held == wanted);
            tried.map(|(users, _)| *users)
        };
        let least_broke = users(false).min().unwrap_or(u32::MAX);
        let most_held = users(true).max().unwrap_or(0);
        let above = users(false).filter(|n| *n > most_held).min();
        Answer {
            holds: users(true).filter(|n| *n < least_broke).max().unwrap_or(0),
            breaks: above.or_else(|| users(false).max()),
            steady: false,
        }
    }

    /// How far apart the two ends of the answer may be.
    fn gap(&self) -> u32 {
        whole(f64::from(self.low) * self.search.precision_percent / 100.0).max(1)
    }

    fn step(&self) -> u32 {
        let next = whole(f64::from(self.low) * self.search.factor);
        next.max(self.low + 1).min(self.search.to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(from: u32, to: u32) -> CapacitySearch {
        CapacitySearch {
            from,
            to,
            factor: 2.0,
            precision_percent: 10.0,
        }
    }

    /// Plays a search against a server whose answer depends on `users` and the number of the try.
    fn play(
        search: CapacitySearch,
        mut holds: impl FnMut(usize, u32) -> bool,
    ) -> (Answer, Vec<Try>) {
        let mut hunt = Hunt::new(search);
        let mut tries = Vec::new();
        while let Some(next) = hunt.next() {
            hunt.tell(next.users, holds(tries.len(), next.users));
            tries.push(next);
            assert!(tries.len() < 1000, "it ends: {hunt:?}");
        }
        (hunt.answer(), tries)
    }

    #[test]
    fn steps_then_halves_then_confirms_both_ends() {
        use Kind::{Bisect, Confirm, Step};
        let (answer, tries) = play(search(500, 50_000), |_, users| users <= 4_100);
        let tries: Vec<_> = tries.iter().map(|t| (t.kind, t.users)).collect();
        let expected = [
            (Step, 500),
            (Step, 1000),
            (Step, 2000),
            (Step, 4000),
            (Step, 8000),
            (Bisect, 6000),
            (Bisect, 5000),
            (Bisect, 4500),
            (Bisect, 4250),
            (Confirm, 4000),
            (Confirm, 4400),
        ];
        assert_eq!(tries, expected);
        let found = (answer.holds, answer.breaks, answer.steady);
        assert_eq!(found, (4000, Some(4400), true));
    }

    #[test]
    fn a_server_that_holds_all_or_nothing_is_soon_known() {
        let (all, tries) = play(search(100, 700), |_, _| true);
        let users: Vec<_> = tries.iter().map(|t| t.users).collect();
        assert_eq!((all.holds, all.breaks), (700, None));
        assert_eq!(users, [100, 200, 400, 700]);
        let (nothing, tries) = play(search(100, 700), |_, _| false);
        assert_eq!(
            (nothing.holds, nothing.breaks, tries.len()),
            (0, Some(100), 1)
        );
    }

    #[test]
    fn what_does_not_hold_again_goes_down_and_what_holds_after_all_goes_up() {
        // 400 hold only at the first try.
        let (down, _) = play(search(100, 10_000), |n, users| n == 2 || users <= 300);
        assert!(
            down.holds <= 300 && down.breaks > Some(300) && down.steady,
            "{down:?}"
        );
        // 800 fail by accident, and never again.
        let (up, _) = play(search(100, 10_000), |n, users| n != 3 && users <= 5_000);
        assert!(up.holds > 4_500 && up.holds <= 5_000 && up.steady, "{up:?}");
    }

    #[test]
    fn a_server_that_takes_back_whatever_it_said_is_given_up() {
        let mut hunt = Hunt::new(search(100, 10_000));
        let (mut tries, mut confirmations) = (0, 0);
        while let Some(Try { kind, users }) = hunt.next() {
            // Both ends are confirmed, and later contradicted.
            let held = match kind {
                Kind::Confirm => confirmations % 3 < 2,
                _ => users <= 1000,
            };
            confirmations += u32::from(kind == Kind::Confirm);
            hunt.tell(users, held);
            tries += 1;
            assert!(tries < 100, "it ends: {hunt:?}");
        }
        let answer = hunt.answer();
        assert!(!answer.steady, "{answer:?}");
        assert!(
            answer.holds > 0 && answer.holds <= 1000 && answer.breaks > Some(1000),
            "{answer:?}"
        );
    }

    proptest! {
        #[test]
        fn a_sharp_limit_is_found_to_the_precision(
            from in 2_u32..2_000,
            more in 0_u32..60_000,
            factor in 1.1_f64..4.0,
            precision_percent in 0.5_f64..50.0,
            fraction in 0.0_f64..1.0,
        ) {
            let to = from + more;
            let capacity = from + whole(f64::from(more) * fraction);
            let search = CapacitySearch { from, to, factor, precision_percent };
            let (answer, tries) = play(search, |_, users| users <= capacity);
            prop_assert!(answer.steady && answer.holds <= capacity);
            prop_assert!(tries.iter().all(|t| (from..=to).contains(&t.users)));
            match answer.breaks {
                None => prop_assert_eq!((answer.holds, capacity), (to, to)),
                Some(breaks) => {
                    prop_assert!(breaks > capacity);
                    let widest = f64::from(answer.holds) * (1.0 + precision_percent / 100.0);
                    prop_assert!(f64::from(breaks) <= widest.max(f64::from(answer.holds + 1)) + 1e-6);
                    let tried = |n: u32| tries.iter().filter(|t| t.users == n).count();
                    prop_assert!(tried(answer.holds) == 2 && tried(breaks) >= 1);
                    prop_assert_eq!(tries.last().map(|t| (t.kind, t.users)), Some((Kind::Confirm, breaks)));
                }
            }
        }

        #[test]
        fn any_server_at_all_gets_an_answer(from in 2_u32..500, more in 0_u32..60_000, seed: u64) {
            let search = search(from, from + more);
            let mut state = seed;
            let (answer, tries) = play(search, |_, _| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 63 == 0
            });
            prop_assert!(tries.len() <= 120, "{} tries", tries.len());
            prop_assert!(answer.breaks.is_none_or(|breaks| breaks > answer.holds));
        }
    }
}
