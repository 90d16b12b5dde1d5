//! The delivery ledger: what was sent into each room against what came out of it. Pure.

use std::collections::HashMap;

use crate::sample::{Direction as Way, Kind};

/// Messages that one user has received in one room, in constant memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Inbox {
    partner: Option<u32>,
    next_seq: u32,
    /// Messages received at least once, for each type.
    unique: [u32; Kind::MAX],
    /// One more than the highest number received, for each type.
    next_nth: [u32; Kind::MAX],
    /// Bit `k` stands for sequence number `next_seq - 1 - k`.
    seen: u128,
}

/// What a received message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// Newer than all before.
    InOrder,
    /// New, but a later one had come before it.
    Reordered,
    /// Received before; also one so old (128 messages) that nothing is known about it any more.
    Duplicate,
    /// From a third user.
    WrongPeer,
}

impl Inbox {
    /// Enters message `seq` of user `sender`, the `nth` of its type.
    pub(crate) fn receive(&mut self, sender: u32, seq: u32, kind: Kind, nth: u32) -> Receipt {
        if *self.partner.get_or_insert(sender) != sender {
            return Receipt::WrongPeer;
        }
        let receipt = self.place(seq);
        if matches!(receipt, Receipt::InOrder | Receipt::Reordered) {
            self.unique[kind.index()] += 1;
            let next = &mut self.next_nth[kind.index()];
            *next = (*next).max(nth.saturating_add(1));
        }
        receipt
    }

    fn place(&mut self, seq: u32) -> Receipt {
        if seq >= self.next_seq {
            let shift = seq - self.next_seq + 1;
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.next_seq = seq.saturating_add(1);
            return Receipt::InOrder;
        }
        let age = self.next_seq - 1 - seq;
        match 1_u128.checked_shl(age) {
            Some(bit) if self.seen & bit == 0 => {
                self.seen |= bit;
                    Receipt::Reordered
            }
            _ => Receipt::Duplicate,
        }
    }
}

/// One user's stay in one room, told when it is over.
#[derive(Debug, Clone)]
pub(crate) struct Stay {
    /// The room.
    pub room: u64,
    /// The user.
    pub user: u32,
    /// The direction in which the user sends.
    pub direction: Way,
    /// Messages that the user sent, for each type.
    pub sent: [u32; Kind::MAX],
    /// Of those, how many the server answered with `not_in_room`.
    pub refused: u32,
    /// The partner left before the user did.
    pub partner_left: bool,
    /// The partner belongs to another load test, so nothing is known of what they received.
    pub foreign: bool,
    /// What the user received.
    pub inbox: Inbox,
}

impl Stay {
    /// Messages of all types that the user sent.
    pub(crate) fn sent_in_all(&self) -> u32 {
        self.sent.iter().sum()
    }
}

/// One direction of one room.
#[derive(Debug, Default, Clone, Copy)]
struct Direction {
    joined: bool,
    sent: u64,
    refused: u64,
    unique: u64,
    next_seq: u64,
    partner_left: bool,
}

/// Every direction of every room of a run, joined from the two ends.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    directions: HashMap<(u64, u32), Direction>,
    foreign: u64,
}

/// What became of the messages of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Received by the partner at least once.
    pub delivered: u64,
    /// Never received, though the partner was there.
    pub lost: u64,
    /// Never received, because the partner had left.
    pub undeliverable: u64,
    /// Sent to a user of another load test: unknown whether received.
    pub foreign: u64,
    /// Refused with `not_in_room` although the partner had not left; part of `lost`.
    pub wrongly_refused: u64,
    /// Rooms that only one user was told of.
    pub one_sided_rooms: u64,
    /// Users in rooms of more than two.
    pub crowded_users: u64,
}

impl Ledger {
    /// Enters one stay.
    pub(crate) fn add(&mut self, stay: &Stay) {
        if stay.foreign {
            self.foreign += u64::from(stay.sent_in_all());
            return;
        }
        let mine = self.directions.entry((stay.room, stay.user)).or_default();
        mine.joined = true;
        mine.sent += u64::from(stay.sent_in_all());
        mine.refused += u64::from(stay.refused);
        mine.partner_left |= stay.partner_left;
        if let Some(partner) = stay.inbox.partner {
            let theirs = self.directions.entry((stay.room, partner)).or_default();
            theirs.unique += stay.inbox.unique.iter().map(|n| u64::from(*n)).sum::<u64>();
            theirs.next_seq += u64::from(stay.inbox.next_seq);
        }
    }

    /// Adds what another worker's users have seen.
    pub(crate) fn merge(&mut self, other: Self) {
        self.foreign += other.foreign;
        for (key, theirs) in other.directions {
            let mine = self.directions.entry(key).or_default();
            mine.joined |= theirs.joined;
            mine.sent += theirs.sent;
            mine.refused += theirs.refused;
            mine.unique += theirs.unique;
            mine.next_seq += theirs.next_seq;
            mine.partner_left |= theirs.partner_left;
        }
    }

    /// Closes the books.
    pub(crate) fn settle(&self) -> Delivery {
        let mut total = Delivery {
            foreign: self.foreign,
            ..Delivery::default()
        };
        let mut members: HashMap<u64, u64> = HashMap::new();
        for (&(room, _), direction) in &self.directions {
            if direction.joined {
                *members.entry(room).or_default() += 1;
            }
            direction.settle(&mut total);
        }
        for count in members.into_values() {
            match count {
                1 => total.one_sided_rooms += 1,
                2 => {}
                more => total.crowded_users += more,
            }
        }
        total
    }
}

impl Direction {
    fn settle(&self, total: &mut Delivery) {
        let delivered = self.unique.min(self.sent);
        let missing = self.sent - delivered;
        total.delivered += delivered;
        if !self.partner_left {
            total.lost += missing;
            total.wrongly_refused += self.refused;
            return;
        }
        // The partner read the messages in order, so one that is missing before the last that they
        // received was lost on the way, and one after it may have come when they had gone.
        let gaps = self.next_seq.saturating_sub(self.unique).min(missing);
        total.lost += gaps;
        total.undeliverable += missing - gaps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(partner: u32, seqs: &[u32]) -> Inbox {
        let mut inbox = Inbox::default();
        for &seq in seqs {
            inbox.receive(partner, seq);
        }
        inbox
    }

    fn stay(user: u32, sent: u32, inbox: Inbox) -> Stay {
        Stay {
            room: 7,
            user,
            sent,
            refused: 0,
            partner_left: false,
            foreign: false,
            inbox,
        }
    }

    fn settle(stays: &[Stay]) -> Delivery {
        // Each stay in a ledger of its own, as two partners are often played by different workers.
        let mut all = Ledger::default();
        for stay in stays {
            let mut one = Ledger::default();
            one.add(stay);
            all.merge(one);
        }
        all.settle()
    }

    #[test]
    fn an_inbox_tells_new_old_and_repeated_apart() {
        let mut inbox = Inbox::default();
        let got: Vec<_> = [0, 1, 3, 2, 2, 3, 4]
            .map(|seq| inbox.receive(9, seq))
            .into();
        use Receipt::{Duplicate, InOrder, Reordered, WrongPeer};
        assert_eq!(
            got,
            [
                InOrder, InOrder, InOrder, Reordered, Duplicate, Duplicate, InOrder
            ]
        );
        assert_eq!(inbox.receive(8, 5), WrongPeer);
        assert_eq!(inbox.receive(9, 1000), InOrder);
        assert_eq!(inbox.receive(9, 873), Reordered, "127 back is still known");
        assert_eq!(inbox.receive(9, 872), Duplicate, "128 back is not");
        assert_eq!(inbox.receive(9, u32::MAX), InOrder);
        assert_eq!(
            inbox.receive(9, u32::MAX),
            InOrder,
            "the end of the numbers does not panic"
        );
    }

    #[test]
    fn everything_received_is_delivered() {
        let got = settle(&[
            stay(1, 3, inbox(2, &[0, 1])),
            stay(2, 2, inbox(1, &[0, 1, 2])),
        ]);
        assert_eq!(
            got,
            Delivery {
                delivered: 5,
                ..Delivery::default()
            }
        );
    }

    #[test]
    fn what_the_partner_did_not_get_is_lost() {
        let got = settle(&[
            stay(1, 4, Inbox::default()),
            stay(2, 0, inbox(1, &[0, 2, 2, 2])),
        ]);
        assert_eq!((got.delivered, got.lost, got.undeliverable), (2, 2, 0));
    }

    #[test]
    fn after_the_partner_left_only_gaps_are_lost() {
        let alone = Stay {
            partner_left: true,
            refused: 1,
            ..stay(1, 6, Inbox::default())
        };
        let gone = stay(2, 0, inbox(1, &[0, 2, 3]));
        let got = settle(&[alone, gone]);
        assert_eq!((got.delivered, got.lost, got.undeliverable), (3, 1, 2));
        assert_eq!(got.wrongly_refused, 0);
    }

    #[test]
    fn a_refusal_while_the_partner_is_there_is_a_loss() {
        let refused = Stay {
            refused: 2,
            ..stay(1, 2, Inbox::default())
        };
        let got = settle(&[refused, stay(2, 0, Inbox::default())]);
        assert_eq!((got.lost, got.wrongly_refused), (2, 2));
    }

    #[test]
    fn rooms_of_one_and_of_three_are_seen() {
        let alone = Stay {
            room: 1,
            ..stay(1, 0, Inbox::default())
        };
        let three = [2, 3, 4].map(|user| stay(user, 0, Inbox::default()));
        let got = settle(&[&[alone], &three[..]].concat());
        assert_eq!((got.one_sided_rooms, got.crowded_users), (1, 3));
    }

    #[test]
    fn a_partner_of_another_run_proves_nothing() {
        let got = settle(&[Stay {
            foreign: true,
            ..stay(1, 9, Inbox::default())
        }]);
        assert_eq!(
            got,
            Delivery {
                foreign: 9,
                ..Delivery::default()
            }
        );
    }
}
