//! What is remembered, and what is forgotten.

use proptest::prelude::*;

use super::*;

const PEOPLE: u64 = 6;
const MAX: usize = 7;
const REMEMBERED: u32 = 20;

fn blocks(max: usize) -> (Blocks, IntGauge) {
    let gauge = IntGauge::new("blocks", "Blocks.").expect("a name");
    let second = Duration::from_secs(1);
    (Blocks::new(max, REMEMBERED * second, gauge.clone()), gauge)
}

fn session(id: u64) -> Person {
    Person(id)
}

#[derive(Debug, Clone)]
enum Step {
    Block(u64, u64),
    Forget(u64),
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PEOPLE, 1..PEOPLE).prop_map(|(by, to)| Step::Block(by, (by + to) % PEOPLE)),
        1 => (0..PEOPLE).prop_map(Step::Forget),
        2 => (1u32..8).prop_map(Step::Pass),
    ]
}

proptest! {
    /// A list of blocks, the oldest first, tells the same.
    #[test]
    fn who_is_apart_is_as_in_a_list(steps in prop::collection::vec(step(), 1..80)) {
        let (blocks, gauge) = blocks(MAX);
        let start = Instant::now();
        let (mut model, mut now): (Vec<(u64, u64, u32)>, u32) = (Vec::new(), 0);
        let at = |seconds: u32| start + Duration::from_secs(seconds.into());
        for step in steps {
            match step {
                Step::Pass(seconds) => now += seconds,
                Step::Forget(person) => {
                    blocks.forget_person(session(person));
                    model.retain(|&(by, of, _)| by != person && of != person);
                }
                Step::Block(by, of) => {
                    model.retain(|&(_, _, until)| now < until);
                    let done = blocks.block(session(by), session(of), false, at(now));
                    let before = model.len();
                    model.retain(|&(a, b, _)| (a, b) != (by, of));
                    prop_assert_eq!(done.is_new, model.len() == before);
                    model.push((by, of, now + REMEMBERED));
                    prop_assert_eq!(done.pushes_out, model.len() > MAX);
                    if model.len() > MAX {
                        model.remove(0);
                    }
                }
            }
            for (a, b) in (0..PEOPLE).flat_map(|a| (0..PEOPLE).map(move |b| (a, b))) {
                let apart = model.iter().any(|&(by, of, until)| ((by, of) == (a, b) || (by, of) == (b, a)) && now < until);
                prop_assert_eq!(blocks.are_apart(session(a), session(b), at(now)), apart, "{} and {}", a, b);
            }
            prop_assert!(blocks.len() >= model.len() && blocks.len() <= MAX);
            prop_assert_eq!(gauge.get(), blocks.len() as i64);
        }
        (0..PEOPLE).for_each(|person| blocks.forget_person(session(person)));
        prop_assert!(blocks.is_empty() && blocks.apart.is_empty());
    }
}

#[test]
fn the_first_of_too_many_is_a_stranger_again_and_only_to_who_blocked_them() {
    let (blocks, _) = blocks(1000);
    let now = Instant::now();
    let most = MAX_OF_ONE as u64;
    blocks.block(session(1), session(0), false, now);
    for other in 1..=most {
        // Who is blocked by many stays blocked by all.
        blocks.block(session(0), session(other), false, now);
        blocks.block(session(1000 + other), session(0), false, now);
    }
    assert!(
        !blocks.block(session(0), session(1), false, now).is_new,
        "again"
    );
    assert!(
        blocks
            .block(session(0), session(999), false, now)
            .pushes_out
    );

    assert!(
        !blocks.are_apart(session(0), session(2), now),
        "now the oldest"
    );
    for other in (3..=most).chain([1, 999]).chain(1001..=1000 + most) {
        assert!(blocks.are_apart(session(other), session(0), now), "{other}");
    }
}

#[test]
fn users_of_the_app_are_no_sessions_and_keep_their_blocks() {
    let (blocks, _) = blocks(10);
    let now = Instant::now();
    let ann = |session| blocks.person(Some("ann"), SessionId(session));
    let bob = blocks.person(Some("bob"), SessionId(2));
    assert_ne!(ann(1), blocks.person(None, SessionId(1)));
    blocks.block(ann(1), bob, true, now);
    assert!(
        blocks.are_apart(bob, ann(7), now),
        "another session of the same user"
    );
}

fn told(by: u64, of: u64, seconds: u32) -> Told {
    let left = seconds * Duration::from_secs(1);
    Told { by, of, left }
}

#[test]
fn blocks_of_users_are_told_once_and_those_of_other_nodes_count_as_long() {
    let (blocks, _) = blocks(10);
    let start = Instant::now();
    let at = |seconds: u32| start + seconds * Duration::from_secs(1);
    let [ann, bob, cid] = [1, 2, 3].map(session);
    let block = |by, of, now| blocks.block(by, of, true, at(now));
    assert_eq!(blocks.block(ann, cid, false, at(0)).is_news, None);
    assert_eq!(block(ann, bob, 0).is_news, Some((1, 2)));
    // At once once more is no news; later it is.
    let again = blocks.block(ann, bob, true, at(0) + Duration::from_millis(600));
    assert_eq!((again.is_new, again.is_news), (false, None));
    assert_eq!(block(ann, bob, 1).is_news, Some((1, 2)));
    assert_eq!(blocks.to_tell(at(1)), [told(1, 2, REMEMBERED)]);
    // They have heard it: who blocks the same one tells nothing.
    blocks.hear(&told(2, 3, REMEMBERED), at(1));
    let heard = block(bob, cid, 1);
    assert_eq!((heard.is_new, heard.is_news), (false, None));
    // One that lasts less long than that of the other direction leaves them apart.
    block(cid, ann, 2);
    blocks.hear(&told(1, 3, 3), at(2));
    assert!(blocks.are_apart(ann, cid, at(1 + REMEMBERED)));
    // What is known is not made shorter.
    blocks.hear(&told(1, 2, 5), at(2));
    assert!(blocks.are_apart(ann, bob, at(REMEMBERED)));
    assert!(!blocks.are_apart(ann, bob, at(1 + REMEMBERED)));
}

#[test]
fn a_user_whom_many_have_blocked_names_all_of_their_own_and_some_of_the_others() {
    let (blocks, _) = blocks(10_000);
    let now = Instant::now();
    let most = MAX_OF_ONE as u64;
    assert_eq!(blocks.apart_of(session(0), now), [0; 0]);
    for other in 1..=3 * most {
        blocks.block(session(1000 + other), session(0), true, now);
    }
    for other in 1..=most {
        blocks.block(session(0), session(other), true, now);
    }
    let apart = blocks.apart_of(session(0), now);
    let own: Vec<u64> = (1..=most).collect();
    assert_eq!(apart[..MAX_OF_ONE], own);
    assert_eq!(apart.len(), 2 * MAX_OF_ONE);
    assert!(apart[MAX_OF_ONE..].iter().all(|other| *other > 1000));
    assert_eq!(blocks.apart_of(session(1001), now), [0]);
    let over = now + Duration::from_secs(REMEMBERED.into());
    assert_eq!(blocks.apart_of(session(0), over), [0; 0]);
}
