//! Users and networks that an operator keeps out for a time. They are in memory only: who may come in for good is for the
//! app to say, with its tokens.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering, fence},
    },
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use voicematch_core::{address::UserAddress, room::Member};
use voicematch_protocol::CloseReason;

/// Bans at the same time: about 3 MB.
pub const MAX_BANS: usize = 10_000;

/// An IPv6 user has a network of this many bits, as in the limits.
const V6_BITS: u8 = 64;

/// The widest networks that can be banned: a wider one is a slip of the hand.
const WIDEST: [u8; 2] = [8, 16];

/// Who is banned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whom {
    /// The user of this id of the app's.
    User(Box<str>),
    /// All users in this network.
    Network(IpNet),
}

impl Whom {
    /// Reads an address or a network; an IPv6 address stands for its /64. The error says what is wrong.
    pub fn network(text: &str) -> Result<Self, String> {
        let how = "write address as 203.0.113.7, 203.0.113.0/24, 2001:db8:1:2::/64 or an IPv6 address, which stands for its /64";
        let network = match text.parse::<IpAddr>() {
            // The same address as that by which users are known.
            Ok(address) => UserAddress::from(address).ip().map(IpNet::from),
            Err(_) => text.parse().ok(),
        };
        let network = match network.ok_or(how)? {
            IpNet::V6(network) if network.prefix_len() > V6_BITS => {
                let network = Ipv6Net::new(network.addr(), V6_BITS);
                IpNet::V6(network.map_err(|_| how)?)
            }
            network => network,
        };
        let widest = WIDEST[usize::from(network.addr().is_ipv6())];
        if network.prefix_len() < widest {
            return Err(format!(
                "{text:.50} is wider than /{widest}; ban a smaller network"
            ));
        }
        Ok(Self::Network(network.trunc()))
    }

    /// As one process tells another.
    pub fn to_word(&self) -> String {
        match self {
            Self::User(user) => format!("u{user}"),
            Self::Network(network) => format!("n{network}"),
        }
    }

    /// What [`Self::to_word`] has made. `None`: it is nothing of the kind.
    pub fn of_word(word: &str) -> Option<Self> {
        let (kind, name) = word.split_at_checked(1)?;
        match kind {
            "u" => Some(Self::User(name.into())),
            "n" => Self::network(name).ok(),
            _ => None,
        }
    }

    /// Whether this user is meant.
    fn hits(&self, member: &Member) -> bool {
        match self {
            Self::User(user) => member.user() == Some(user),
            Self::Network(network) => {
                let address = member.address().ip();
                address.is_some_and(|address| network.contains(&address))
            }
        }
    }
}

/// One ban.
#[derive(Debug, Clone)]
pub struct Ban {
    /// Counts up; none is given twice.
    pub id: u64,
    pub whom: Whom,
    /// For operators.
    pub reason: Box<str>,
    pub until: Instant,
}

/// A ban as a server tells the one that takes its place.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToldBan {
    /// [`Whom::to_word`].
    whom: String,
    reason: Box<str>,
    /// How long it lasts yet, in milliseconds.
    millis: u64,
}

/// There are as many bans as there may be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyBans;

/// The bans of this process.
#[derive(Default)]
pub struct Bans {
    /// How many there are: as long as there is none, nothing else is looked at.
    count: AtomicUsize,
    list: RwLock<List>,
}

#[derive(Default)]
struct List {
    users: HashMap<Box<str>, Ban>,
    networks: HashMap<IpNet, Ban>,
    last_id: u64,
}

impl Bans {
    /// Bans, in place of an earlier ban of the same. To be followed by [`Ban::close`] for all members.
    pub fn add(
        &self,
        whom: Whom,
        reason: Box<str>,
        lasts: Duration,
        now: Instant,
    ) -> Result<Ban, TooManyBans> {
        let mut list = self.write();
        list.end(now);
        let is_new = list.get(&whom).is_none();
        if is_new && list.len() >= MAX_BANS {
            return Err(TooManyBans);
        }
        list.last_id += 1;
        let ban = Ban {
            id: list.last_id,
            whom,
            reason,
            until: now + lasts,
        };
        match ban.whom.clone() {
            Whom::User(user) => list.users.insert(user, ban.clone()),
            Whom::Network(network) => list.networks.insert(network, ban.clone()),
        };
        self.count.store(list.len(), Ordering::Relaxed);
        drop(list);
        // With the one of `enforce`: either a session that moves to a banned address sees the ban, or the ban sees it there.
        fence(Ordering::SeqCst);
        Ok(ban)
    }

    /// All that are in force, for another process.
    pub fn told(&self, now: Instant) -> Vec<ToldBan> {
        let told = |ban: Ban| ToldBan {
            whom: ban.whom.to_word(),
            reason: ban.reason,
            millis: u64::try_from((ban.until - now).as_millis()).unwrap_or(u64::MAX),
        };
        // So that the ids of the other process are in the same order.
        self.all(now).into_iter().rev().map(told).collect()
    }

    /// Takes over what another process has told, but for what there is no room for. To be followed by [`Self::enforce_all`].
    pub fn hear(&self, told: Vec<ToldBan>, now: Instant) {
        for ban in told {
            if let Some(whom) = Whom::of_word(&ban.whom) {
                let _ = self.add(whom, ban.reason, Duration::from_millis(ban.millis), now);
            }
        }
    }

    /// Ends a ban. `None`: no ban has this id.
    pub fn remove(&self, id: u64) -> Option<Ban> {
        let mut list = self.write();
        let ban = list.all().find(|ban| ban.id == id).cloned()?;
        match &ban.whom {
            Whom::User(user) => list.users.remove(user),
            Whom::Network(network) => list.networks.remove(network),
        };
        self.count.store(list.len(), Ordering::Relaxed);
        Some(ban)
    }

    /// Ends the ban of this user or network, if there is one.
    pub fn lift(&self, whom: &Whom) -> Option<Ban> {
        let id = self.read().get(whom)?.id;
        self.remove(id)
    }

    /// The ban of this user or network that is in force.
    pub fn find(&self, whom: &Whom, now: Instant) -> Option<Ban> {
        let list = self.read();
        list.get(whom).filter(|ban| ban.until > now).cloned()
    }

    /// All that are in force, the latest first.
    pub fn all(&self, now: Instant) -> Vec<Ban> {
        let mut all: Vec<_> = self
            .read()
            .all()
            .filter(|ban| ban.until > now)
            .cloned()
            .collect();
        all.sort_unstable_by_key(|ban| std::cmp::Reverse(ban.id));
        all
    }

    /// Forgets bans that are over. To be called now and then.
    pub fn sweep(&self, now: Instant) {
        if self.is_empty() {
            return;
        }
        let mut list = self.write();
        list.end(now);
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Whether nobody is banned: one relaxed load.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Until when nobody may come in from this address, if so.
    pub fn of_address(&self, address: IpAddr, now: Instant) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let address = UserAddress::from(address).ip()?;
        let list = self.read();
        let longest = if address.is_ipv6() { V6_BITS } else { 32 };
        // One look for each length of a prefix, however many bans there are.
        let networks = (0..=longest).filter_map(|bits| IpNet::new(address, bits).ok());
        let bans = networks.filter_map(|network| list.networks.get(&network.trunc()));
        bans.map(|ban| ban.until).filter(|until| *until > now).max()
    }

    /// Until when this user may not come in, if so.
    pub fn of_user(&self, user: &str, now: Instant) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let until = self.read().users.get(user)?.until;
        (until > now).then_some(until)
    }

    /// Closes a session that has just begun, or was carried on from `address`, if its user was banned meanwhile.
    pub fn enforce(&self, member: &Member, address: IpAddr, now: Instant) {
        let address = UserAddress::from(address);
        if member.address() != address {
            member.set_address(address);
            fence(Ordering::SeqCst);
        }
        self.close(member, now);
    }

    /// Closes the sessions of all who are banned.
    pub fn enforce_all(&self, members: &[Arc<Member>], now: Instant) {
        for member in members {
            self.close(member, now);
        }
    }

    fn close(&self, member: &Member, now: Instant) {
        if self.is_empty() {
            return;
        }
        let of_user = member.user().and_then(|user| self.of_user(user, now));
        let of_address = member
            .address()
            .ip()
            .and_then(|ip| self.of_address(ip, now));
        if of_user.or(of_address).is_some() {
            member.outbox.close(CloseReason::Banned);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ban {
    /// Closes the session of this member, if it is meant. False: it is not, or is about to end.
    pub fn close(&self, member: &Member) -> bool {
        let hit = self.whom.hits(member) && member.outbox.status().closing.is_none();
        if hit {
            member.outbox.close(CloseReason::Banned);
        }
        hit
    }
}

impl List {
    fn len(&self) -> usize {
        self.users.len() + self.networks.len()
    }

    fn all(&self) -> impl Iterator<Item = &Ban> {
        self.users.values().chain(self.networks.values())
    }

    fn get(&self, whom: &Whom) -> Option<&Ban> {
        match whom {
            Whom::User(user) => self.users.get(user),
            Whom::Network(network) => self.networks.get(network),
        }
    }

    fn end(&mut self, now: Instant) {
        fn end<K: Eq + Hash>(bans: &mut HashMap<K, Ban>, now: Instant) {
            bans.retain(|_, ban| ban.until > now);
        }
        end(&mut self.users, now);
        end(&mut self.networks, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("valid")
    }

    #[test]
    fn a_network_is_read_as_users_are_told_apart() {
        for (text, read) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::/80", "2001:db8:1:2::/64"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "127.0.0.1/32"),
        ] {
            let read = read.parse().expect("valid");
            assert_eq!(Whom::network(text), Ok(Whom::Network(read)), "{text}");
        }
        for (text, hint) in [
            ("", "203.0.113.7"),
            ("app.example", "203.0.113.7"),
            ("1.2.3.4/33", "203.0.113.7"),
            ("0.0.0.0", "203.0.113.7"),
            ("0.0.0.0/0", "/8"),
            ("::/0", "/16"),
        ] {
            let error = Whom::network(text).expect_err("bad");
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_ban_ends_by_itself_and_their_number_is_bounded() {
        let (bans, now, second) = (Bans::default(), Instant::now(), Duration::from_secs(1));
        assert!(bans.is_empty());
        let ban = |text: &str, lasts| {
            let whom = Whom::network(text).expect("valid");
            bans.add(whom, "".into(), lasts, now)
        };
        let short = ban("203.0.113.0/24", second).expect("there is room");
        let long = ban("203.0.113.7", 9 * second).expect("there is room");
        assert_eq!(bans.of_address(ip("203.0.113.7"), now), Some(long.until));
        assert_eq!(bans.of_address(ip("203.0.113.8"), now), Some(short.until));
        assert_eq!(bans.of_address(ip("203.0.114.7"), now), None);
        assert_eq!(bans.of_address(ip("203.0.113.8"), now + second), None);
        bans.sweep(now + second);
        assert_eq!(bans.all(now).len(), 1);
        assert_eq!(bans.remove(short.id).map(|ban| ban.id), None);
        assert_eq!(bans.remove(long.id).map(|ban| ban.id), Some(long.id));
        assert!(bans.is_empty());

        for n in 0..MAX_BANS {
            let user = Whom::User(n.to_string().into());
            assert!(bans.add(user, "".into(), second, now).is_ok());
        }
        let more = |now| {
            bans.add(Whom::User("x".into()), "".into(), second, now)
                .map(|_| ())
        };
        assert_eq!(more(now), Err(TooManyBans));
        let again = bans.add(Whom::User("7".into()), "".into(), 5 * second, now);
        assert_eq!(bans.of_user("7", now), again.ok().map(|ban| ban.until));
        assert_eq!(more(now + second), Ok(()), "the others are over");
        assert_eq!(bans.all(now + second).len(), 2);
    }

    #[test]
    fn ipv6_users_are_banned_by_network() {
        let (bans, now) = (Bans::default(), Instant::now());
        let whom = Whom::network("2001:db8:1:2::9").expect("valid");
        let added = bans.add(whom, "".into(), Duration::from_secs(1), now);
        let until = added.expect("there is room").until;
        assert_eq!(bans.of_address(ip("2001:db8:1:2:a::"), now), Some(until));
        assert_eq!(bans.of_address(ip("2001:db8:1:3::"), now), None);
    }
}
