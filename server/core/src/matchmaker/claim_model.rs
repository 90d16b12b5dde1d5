//! Model checks of the one file that decides matches, with the checker's locks in place of the real ones.

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}
#[path = "claim.rs"]
#[allow(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    reason = "the same file with other locks, of which the model uses a part"
)]
mod claim;

use claim::{Claim, ClaimState, Unpaired};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Nobody has blocked anybody.
fn nobody() -> bool {
    false
}

/// Every interleaving of three users who find each other in a circle while one cancels: at most one
/// pair, nobody claimed alone, and nobody both cancelled and claimed.
#[test]
fn every_interleaving_of_claims_makes_whole_pairs() {
    loom::model(|| {
        let claims: Arc<[Claim; 3]> = Arc::new(std::array::from_fn(|i| Claim::new(i as u64)));
        let pair = |mine: usize, theirs: usize| {
            let claims = claims.clone();
            thread::spawn(move || Claim::pair(&claims[mine], &claims[theirs], nobody).is_ok())
        };
        let threads = [pair(0, 1), pair(1, 2)];
        let closing = pair(2, 0);
        let cancelled = claims[1].cancel().is_some();
        let pairs = threads
            .into_iter()
            .chain([closing])
            .map(|thread| thread.join().expect("no panic"));
        let made = pairs.filter(|made| *made).count();
        let claimed = claims
            .iter()
            .filter(|claim| claim.state() == ClaimState::Claimed)
            .count();
        assert_eq!(claimed, 2 * made);
        assert!(made <= 1);
        assert_eq!(claims[1].state() == ClaimState::Cancelled, cancelled);
        assert!(
            cancelled || made == 1,
            "two who are free and look are matched"
        );
    });
}

#[test]
fn nobody_is_matched_with_themself_or_after_the_end() {
    loom::model(|| {
        let (a, b) = (Claim::new(1), Claim::new(2));
        assert_eq!(Claim::pair(&a, &a, nobody), Err(Unpaired::Theirs));
        assert!(b.cancel().is_some());
        assert_eq!(Claim::pair(&a, &b, nobody), Err(Unpaired::Theirs));
        assert_eq!(Claim::pair(&b, &a, nobody), Err(Unpaired::Mine));
        assert_eq!(
            (a.state(), b.state()),
            (ClaimState::Waiting, ClaimState::Cancelled)
        );
    });
}

/// Every interleaving of a user who is parked and comes back while another looks: they are matched once, or both still
/// wait.
#[test]
fn a_parked_user_is_claimed_by_nobody() {
    loom::model(|| {
        let claims: Arc<[Claim; 2]> = Arc::new(std::array::from_fn(|i| Claim::new(i as u64)));
        let frozen = claims.clone();
        let frozen = thread::spawn(move || {
            let parked = frozen[0].park().is_some();
            if parked {
                assert_eq!(frozen[0].state(), ClaimState::Parked, "nobody takes it");
                assert!(frozen[0].unpark());
            }
            parked
        });
        let met = Claim::pair(&claims[1], &claims[0], nobody).is_ok();
        let parked = frozen.join().expect("no panic");
        assert!(met || parked);
        let state = if met {
            ClaimState::Claimed
        } else {
            ClaimState::Waiting
        };
        assert_eq!((claims[0].state(), claims[1].state()), (state, state));
    });
}

/// Every interleaving of a user whose partner turns out to have gone, so that the claim is taken back, and
/// another who looks meanwhile: the two meet, and once.
#[test]
fn a_survivor_is_there_for_the_next_search() {
    loom::model(|| {
        let claims: Arc<[Claim; 3]> = Arc::new(std::array::from_fn(|i| Claim::new(i as u64)));
        let [gone, _, other] = &*claims;
        let survivors = claims.clone();
        let survivor = thread::spawn(move || {
            let [gone, survivor, other] = &*survivors;
            if Claim::pair(survivor, gone, nobody).is_ok() {
                survivor.reopen();
            }
            Claim::pair(survivor, other, nobody).is_ok()
        });
        let met = Claim::pair(other, &claims[1], nobody).is_ok();
        let met_late = survivor.join().expect("no panic");
        assert!(met != met_late, "{met} {met_late}");
        assert_eq!(claims[1].state(), ClaimState::Claimed);
        assert_eq!(other.state(), ClaimState::Claimed);
        assert_ne!(gone.state(), ClaimState::Cancelled);
    });
}

/// Every interleaving of a user who blocks a partner while that partner looks: either the two are not matched, or the one
/// who has blocked sees at once that a match was made, and can end it. A third user still meets the one who is left.
#[test]
fn a_block_comes_before_the_match_or_sees_it() {
    loom::model(|| {
        let claims: Arc<[Claim; 3]> = Arc::new(std::array::from_fn(|i| Claim::new(i as u64)));
        let blocked = Arc::new(AtomicBool::new(false));
        let looking = {
            let (claims, blocked) = (claims.clone(), blocked.clone());
            thread::spawn(move || {
                let are_apart = || blocked.load(Ordering::Acquire);
                Claim::pair(&claims[1], &claims[0], are_apart)
            })
        };
        blocked.store(true, Ordering::Release);
        let sees_match = claims[0].state() == ClaimState::Claimed;
        let looked = looking.join().expect("no panic");
        assert_eq!(looked.is_ok(), sees_match);
        if !sees_match {
            assert_eq!(looked, Err(Unpaired::Apart));
            assert_eq!(Claim::pair(&claims[2], &claims[0], nobody), Ok(()));
        }
    });
}
