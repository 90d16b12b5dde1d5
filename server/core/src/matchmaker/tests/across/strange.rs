//! Frames of a later version, or of nobody.

use super::*;
use crate::cluster::FrameKind;

#[test]
fn frames_that_are_not_understood_are_counted_and_skipped() {
    let (mut world, users) = pair_of_two();
    let (node, metrics) = &world.nodes[0];
    let now = world.now();
    let kinds = [
        (0, &[][..]),
        (9, &[]),
        (FrameKind::Propose as u8, b"{}"),
        (FrameKind::Rooms as u8, &[0; 8]),
        (FrameKind::Rooms as u8, &[0; 17]),
    ];
    for (kind, body) in kinds {
        let (room, to, from) = (RoomId(1), SessionId(0), SessionId(1));
        let frame = Frame {
            kind,
            room,
            to,
            from,
            body,
            age: Duration::ZERO,
        };
        node.frame(between::id_of(1, 0), &frame, now);
    }
    for (reason, count) in [("unknown_frame", 2.0), ("bad_frame", 3.0)] {
        let families = metrics.registry().gather();
        let all = families.iter().flat_map(|family| family.get_metric());
        let of_it = all.filter(|metric| metric.get_label().iter().any(|l| l.value() == reason));
        let counted: f64 = of_it.map(|metric| metric.get_counter().get_value()).sum();
        assert_eq!(counted, count, "{reason}");
    }
    world.settle();
    assert_eq!(users[0].partner(), Some(SessionId(1)));
}
