//! The tickets of this node that are to be posted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::id::TicketId;
use crate::scripts::Wish;

/// Each ticket is looked at so often.
pub(super) const CHECK: Duration = Duration::from_secs(5);

/// Who has left is remembered for so long, to be withdrawn again.
const GONE: Duration = Duration::from_secs(10);

/// And at most so many: 6,500 a second.
const MOST_GONE: usize = 65_536;

/// A ticket's next look in the index. It has one at a time: a second one in the same call would find a second partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    None,
    Queued,
    Asked {
        /// Once more after this one, since something has changed.
        again: bool,
    },
}

#[derive(Debug)]
struct Ticket {
    wish: Wish,
    since: Instant,
    look: Look,
    /// When it is looked at next; with it the key in `due`.
    check: Instant,
    unsure: bool,
    posted: Option<Instant>,
    /// A call may have posted it: it has been asked for, or a withdrawal of it was left out.
    may_stand: bool,
}

/// Wishes by ticket, and by when to look at them.
#[derive(Debug, Default)]
pub(super) struct Standing {
    tickets: HashMap<TicketId, Ticket>,
    due: BTreeMap<(Instant, TicketId), ()>,
    /// Tickets that were withdrawn, the newest last.
    gone: VecDeque<(TicketId, Instant)>,
    /// The next cursor of the sweep, once the engine has answered.
    cursor: Option<u64>,
}

impl Standing {
    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn insert(&mut self, wish: Wish, since: Instant) {
        let id = wish.ticket;
        if let Some(ticket) = self.tickets.get_mut(&id) {
            (ticket.wish, ticket.since) = (wish, since);
            return;
        }
        let check = Instant::now() + CHECK.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        self.due.insert((check, id), ());
        self.tickets.insert(
            id,
            Ticket {
                wish,
                since,
                look: Look::None,
                check,
                unsure: false,
                posted: None,
                may_stand: false,
            },
        );
    }

    fn remove(&mut self, id: TicketId) -> Option<Ticket> {
        let ticket = self.tickets.remove(&id)?;
        self.due.remove(&(ticket.check, id));
        Some(ticket)
    }

    /// It waits no more. Whether the engine is to be told: of one that no call has posted it knows nothing.
    pub(super) fn withdraw(&mut self, id: TicketId, now: Instant) -> bool {
        let told = self.remove(id).is_some_and(|ticket| ticket.may_stand);
        if told {
            self.left(id, now);
        }
        told
    }

    /// The engine has found somebody for it, and has taken it out.
    pub(super) fn found(&mut self, id: TicketId, now: Instant) {
        let was_posted = self
            .remove(id)
            .is_some_and(|ticket| ticket.posted.is_some());
        if was_posted {
            self.left(id, now);
        }
    }

    /// Whether a withdrawal that waited for its turn is still wanted. If it waits again its seek takes out what is there.
    pub(super) fn is_withdrawn(&mut self, id: TicketId) -> bool {
        let again = self.tickets.get_mut(&id);
        again.is_none_or(|ticket| {
            ticket.may_stand = true;
            false
        })
    }

    /// No state of the engine may say that it waits.
    fn left(&mut self, id: TicketId, now: Instant) {
        let old = |at: Instant| now.saturating_duration_since(at) >= GONE;
        while self.gone.len() >= MOST_GONE || self.gone.front().is_some_and(|(_, at)| old(*at)) {
            self.gone.pop_front();
        }
        self.gone.push_back((id, now));
    }

    /// Those that have left a short time ago, to be withdrawn again. They are remembered for as long from now on.
    pub(super) fn withdraw_again(&mut self, now: Instant) -> Vec<TicketId> {
        let gone = std::mem::take(&mut self.gone).into_iter();
        let young = gone.filter(|(_, at)| now.saturating_duration_since(*at) < GONE);
        let young: BTreeSet<TicketId> = young.map(|(id, _)| id).collect();
        self.gone = young.iter().map(|id| (*id, now)).collect();
        young.into_iter().collect()
    }

    /// It is to look in the index. False: there is no need to queue it.
    pub(super) fn look(&mut self, id: TicketId) -> bool {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return false;
        };
        let queues = ticket.look == Look::None;
        ticket.look = match ticket.look {
            Look::None | Look::Queued => Look::Queued,
            Look::Asked { .. } => Look::Asked { again: true },
        };
        queues
    }

    /// Its turn, if it still waits: what for, and since when.
    pub(super) fn ask(&mut self, id: TicketId) -> Option<(Wish, Instant)> {
        let ticket = self.tickets.get_mut(&id)?;
        if ticket.look != Look::Queued {
            return None;
        }
        ticket.look = Look::Asked { again: false };
        ticket.may_stand = true;
        Some((ticket.wish.clone(), ticket.since))
    }

    /// Whether it waits and does not look.
    pub(super) fn rests(&self, id: TicketId) -> bool {
        let ticket = self.tickets.get(&id);
        ticket.is_some_and(|ticket| ticket.look == Look::None)
    }

    /// The engine has it: the next look is a whole time away. Whether it is to look once more.
    pub(super) fn posted(&mut self, id: TicketId, now: Instant) -> bool {
        let Some(ticket) = self.tickets.get_mut(&id) else {
            return false;
        };
        (ticket.unsure, ticket.posted) = (false, Some(now));
        self.due.remove(&(ticket.check, id));
        ticket.check = now + CHECK;
        self.due.insert((ticket.check, id), ());
        let again = ticket.look == Look::Asked { again: true };
        if matches!(ticket.look, Look::Asked { .. }) {
            ticket.look = Look::None;
        }
        again
    }

    /// Whether it stands there is not known.
    pub(super) fn unanswered(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.unsure = true;
            if matches!(ticket.look, Look::Asked { .. }) {
                ticket.look = Look::None;
            }
        }
    }

    /// It was taken out of the queue, or found no place there.
    pub(super) fn dropped(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get_mut(&id) {
            (ticket.unsure, ticket.look) = (true, Look::None);
        }
    }

    /// Those that are to be looked at by now, with whether they are to be posted again without a look. Each is due again later.
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<(TicketId, bool)> {
        let mut out = Vec::new();
        while out.len() < most {
            let Some(entry) = self.due.first_entry() else {
                break;
            };
            let (check, id) = *entry.key();
            if check > now {
                break;
            }
            entry.remove();
            if let Some(ticket) = self.tickets.get_mut(&id) {
                ticket.check = now + CHECK;
                self.due.insert((ticket.check, id), ());
                out.push((id, ticket.unsure));
            }
        }
        out
    }

    /// Those that may have been posted since then, or all; the oldest first.
    pub(super) fn posted_since(&self, since: Option<Instant>) -> Vec<TicketId> {
        let posted = |ticket: &Ticket| {
            since.is_none_or(|since| ticket.posted.is_none_or(|posted| posted >= since))
        };
        let wanted = self.tickets.iter().filter(|(_, ticket)| posted(ticket));
        let mut all: Vec<_> = wanted.map(|(id, ticket)| (ticket.since, *id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn swept(&mut self, cursor: u64) {
        self.cursor = Some(cursor);
    }

    /// The answer to the last bite, once.
    pub(super) fn take_cursor(&mut self) -> Option<u64> {
        self.cursor.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(number: u32) -> Wish {
        Wish::new(TicketId::new([1; 8], number), [1; 8], &[], &[[0; 17]]).expect("a wish")
    }

    #[test]
    fn each_is_looked_at_every_five_seconds_and_not_all_at_once() {
        let mut standing = Standing::default();
        let now = Instant::now();
        (0..1_000).for_each(|number| standing.insert(wish(number), now));
        assert_eq!(
            standing.due(now + CHECK / 2 - Duration::from_millis(100), 2_000),
            []
        );
        let half = standing.due(now + CHECK * 3 / 4, 2_000).len();
        assert!((250..750).contains(&half), "{half}");
        assert_eq!(
            standing
                .due(now + CHECK + Duration::from_secs(1), 2_000)
                .len(),
            1_000 - half
        );
        let last = now + CHECK * 3;
        assert_eq!(standing.due(last, 400).len(), 400);
        assert_eq!(standing.due(last, 2_000).len(), 600);
    }

    #[test]
    fn nothing_is_left_of_who_has_gone() {
        let mut standing = Standing::default();
        let now = Instant::now();
        for number in 0..10 {
            standing.insert(wish(number), now);
            standing.insert(wish(number), now);
            standing.posted(wish(number).ticket, now);
            standing.remove(wish(number).ticket);
        }
        assert!(standing.tickets.is_empty() && standing.due.is_empty());
    }

    #[test]
    fn only_who_may_stand_there_is_withdrawn() {
        let mut standing = Standing::default();
        let (now, id) = (Instant::now(), wish(1).ticket);
        assert!(!standing.withdraw(id, now), "it does not wait");
        standing.insert(wish(1), now);
        standing.look(id);
        assert!(!standing.withdraw(id, now), "it was never asked for");
        standing.insert(wish(1), now);
        assert!(standing.look(id) && standing.ask(id).is_some());
        assert!(standing.withdraw(id, now), "it is asked for");
        // It waits again before that was its turn, and leaves again.
        standing.insert(wish(1), now);
        assert!(!standing.is_withdrawn(id));
        assert!(standing.withdraw(id, now) && standing.is_withdrawn(id));
        // Somebody was found, at once or after it had stood there for a while.
        for posted in [false, true] {
            standing.withdraw_again(now + GONE);
            standing.insert(wish(1), now);
            assert!(standing.look(id) && standing.ask(id).is_some());
            if posted {
                standing.posted(id, now);
            }
            standing.found(id, now);
            assert!(!standing.withdraw(id, now));
            assert_eq!(standing.withdraw_again(now).len(), usize::from(posted));
        }
    }

    #[test]
    fn one_look_at_a_time() {
        let mut standing = Standing::default();
        let (now, id) = (Instant::now(), wish(1).ticket);
        assert!(!standing.look(id), "it does not wait");
        standing.insert(wish(1), now);
        assert!(standing.rests(id) && standing.look(id));
        assert!(!standing.look(id) && !standing.rests(id), "it is queued");
        assert!(standing.ask(id).is_some());
        assert!(standing.ask(id).is_none(), "it is asked");
        assert!(!standing.look(id));
        assert!(standing.posted(id, now), "it changed meanwhile");
        assert!(standing.look(id) && standing.ask(id).is_some());
        standing.unanswered(id);
        assert!(standing.look(id) && standing.ask(id).is_some());
        assert!(!standing.posted(id, now));
        standing.look(id);
        standing.dropped(id);
        assert!(standing.look(id));
    }

    #[test]
    fn who_has_left_is_withdrawn_again_for_ten_seconds() {
        let mut standing = Standing::default();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        for number in [1, 2, 1] {
            standing.left(wish(number).ticket, now);
        }
        standing.left(wish(3).ticket, now + 8 * second);
        let all = [1, 2, 3].map(|number| wish(number).ticket);
        assert_eq!(standing.withdraw_again(now + 9 * second), all);
        let late = now + 9 * second + GONE;
        assert_eq!(
            standing.withdraw_again(late - second),
            all,
            "that may be lost, too"
        );
        assert_eq!(standing.withdraw_again(late + GONE), []);
        for number in 0..100_000 {
            standing.left(wish(number).ticket, now);
        }
        assert_eq!(standing.gone.len(), MOST_GONE);
    }

    #[test]
    fn the_oldest_first() {
        let mut standing = Standing::default();
        let now = Instant::now();
        for (number, age) in [(1, 1), (2, 3), (3, 2)] {
            standing.insert(
                wish(number),
                now.checked_sub(Duration::from_millis(age))
                    .expect("earlier"),
            );
        }
        assert_eq!(
            standing.posted_since(None),
            [2, 3, 1].map(|number| wish(number).ticket)
        );
        standing.posted(wish(3).ticket, now);
        standing.posted(wish(1).ticket, now + CHECK);
        assert_eq!(
            standing.posted_since(Some(now + CHECK)),
            [2, 1].map(|number| wish(number).ticket)
        );
    }
}
