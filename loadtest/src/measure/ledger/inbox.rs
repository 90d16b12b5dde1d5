//! What one user received in one room.

use serde::{Deserialize, Serialize};

use crate::measure::message::Kind;

/// Messages that one user has received in one room, in constant memory.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Inbox {
    pub(super) partner: Option<u32>,
    next_seq: u32,
    /// Messages received at least once, for each type.
    pub(super) unique: [u32; Kind::MAX],
    /// One more than the highest number received, for each type.
    pub(super) next_nth: [u32; Kind::MAX],
    /// The last message took so long that the next one may be on its way for longer than messages are waited for.
    #[serde(default)]
    pub slow: bool,
    /// Messages that came again.
    #[serde(default)]
    pub(super) duplicates: u32,
    /// Where the sender's numbers begin.
    #[serde(default)]
    begin: Begin,
    /// Bit `k` stands for sequence number `next_seq - 1 - k`.
    #[serde(skip)]
    seen: u128,
}

/// Where the numbers of a sender begin.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
enum Begin {
    #[default]
    AtZero,
    /// The sender had begun before, to others: at whatever comes first.
    AtFirst,
    At(u32),
}

/// What a received message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Newer than all before; this many messages in between have not arrived.
    InOrder { missed: u32 },
    /// New, but a later one had come before it.
    Reordered,
    /// Received before; also one so old (128 messages) that nothing is known about it any more.
    Duplicate,
    /// From a third user.
    WrongPeer,
}

impl Inbox {
    /// For messages of one type to several users, who may come later.
    pub fn from_any() -> Self {
        Self {
            begin: Begin::AtFirst,
            ..Self::default()
        }
    }

    /// Enters message `seq` of user `sender`, the `nth` of its type.
    pub fn receive(&mut self, sender: u32, seq: u32, kind: Kind, nth: u32) -> Receipt {
        if *self.partner.get_or_insert(sender) != sender {
            return Receipt::WrongPeer;
        }
        let begin = match self.begin {
            Begin::AtZero => 0,
            Begin::AtFirst => {
                self.begin = Begin::At(seq);
                seq
            }
            Begin::At(begin) => begin,
        };
        let nth = nth.saturating_sub(begin);
        let receipt = match seq.checked_sub(begin) {
            Some(seq) => self.place(seq),
            None => Receipt::Reordered,
        };
        if matches!(receipt, Receipt::InOrder { .. } | Receipt::Reordered) {
            self.unique[kind.index()] += 1;
            let next = &mut self.next_nth[kind.index()];
            *next = (*next).max(nth.saturating_add(1));
        }
        self.duplicates += u32::from(receipt == Receipt::Duplicate);
        receipt
    }

    /// Enters a message that came changed, so that nothing but its type is known.
    pub fn receive_unreadable(&mut self, kind: Kind) {
        self.unique[kind.index()] += 1;
    }

    pub fn knows_partner(&self) -> bool {
        self.partner.is_some()
    }

    /// Messages of all types received at least once.
    pub fn received(&self) -> u32 {
        self.unique.iter().fold(0, |all, n| all.saturating_add(*n))
    }

    /// Messages that are missing before the latest.
    pub(super) fn missed(&self) -> u32 {
        self.next_seq.saturating_sub(self.received())
    }

    fn place(&mut self, seq: u32) -> Receipt {
        if seq >= self.next_seq {
            let missed = seq - self.next_seq;
            let shift = missed.checked_add(1);
            let before = shift.and_then(|shift| self.seen.checked_shl(shift));
            self.seen = before.unwrap_or(0) | 1;
            self.next_seq = seq.saturating_add(1);
            return Receipt::InOrder { missed };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_tells_new_old_and_repeated_apart() {
        let mut inbox = Inbox::default();
        let mut receive = |sender, seq| inbox.receive(sender, seq, Kind::MESSAGE, seq);
        let got = [0, 1, 3, 2, 2, 3, 4].map(|seq| receive(9, seq));
        use Receipt::{Duplicate, InOrder, Reordered, WrongPeer};
        let in_order = |missed| InOrder { missed };
        assert_eq!(
            got,
            [
                in_order(0),
                in_order(0),
                in_order(1),
                Reordered,
                Duplicate,
                Duplicate,
                in_order(0)
            ]
        );
        assert_eq!(receive(8, 5), WrongPeer);
        assert_eq!(receive(9, 1000), in_order(995));
        assert_eq!(receive(9, 873), Reordered, "127 back is still known");
        assert_eq!(receive(9, 872), Duplicate, "128 back is not");
        assert_eq!(receive(9, u32::MAX), in_order(u32::MAX - 1001));
        assert_eq!(
            receive(9, u32::MAX),
            in_order(0),
            "the end of the numbers does not panic"
        );
        let mut late = Inbox::from_any();
        let got = [7, 8, 10, 6, 7].map(|seq| late.receive(9, seq, Kind::MESSAGE, seq));
        let in_between = [in_order(0), in_order(0), in_order(1), Reordered, Duplicate];
        assert_eq!(got, in_between, "who came later missed nothing before");
        let first = Inbox::default().receive(9, u32::MAX, Kind::MESSAGE, u32::MAX);
        assert_eq!(first, in_order(u32::MAX), "nor if it comes first");
    }
}
