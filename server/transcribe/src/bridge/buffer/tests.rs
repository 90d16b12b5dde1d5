use std::time::Duration;

use super::*;

/// The bytes of a chunk.
const CHUNK: u64 = 3200;

fn buffer(chunks: u64) -> Buffer {
    Buffer::new(chunks * CHUNK, Memory::new(1_000_000))
}

fn voiced() -> Bytes {
    vec![0x40; 3200].into()
}

/// Pushes so many chunks, a second after each other.
fn push(buffer: &mut Buffer, chunks: u64) -> Instant {
    let now = Instant::now();
    for chunk in 0..chunks {
        buffer.push(voiced(), now + Duration::from_secs(chunk));
    }
    now
}

fn send(buffer: &mut Buffer, chunks: u64) {
    for _ in 0..chunks {
        assert!(buffer.take().is_some());
    }
}

fn gaps(buffer: &mut Buffer) -> Vec<(u64, u64)> {
    let gaps = buffer.take_gaps();
    gaps.iter()
        .map(|gap| (gap.range.start / CHUNK, gap.range.end / CHUNK))
        .collect()
}

#[test]
fn unsent_audio_that_is_too_much_is_a_gap_at_once() {
    let mut buffer = buffer(10);
    push(&mut buffer, 13);
    assert_eq!(gaps(&mut buffer), [(0, 3)]);
    assert_eq!(buffer.peek(), Some((3 * CHUNK, CHUNK)));
    buffer.slack = 4 * CHUNK;
    push(&mut buffer, 1);
    assert_eq!(
        gaps(&mut buffer),
        [(3, 8)],
        "with a stream, more goes at once"
    );
    assert_eq!(buffer.held, 6 * CHUNK);
}

#[test]
fn sent_audio_that_is_too_much_is_lost_only_with_its_stream() {
    let mut buffer = buffer(10);
    push(&mut buffer, 10);
    send(&mut buffer, 10);
    push(&mut buffer, 5);
    send(&mut buffer, 5);
    assert_eq!(gaps(&mut buffer), []);
    buffer.settle(2 * CHUNK);
    buffer.rewind(0);
    assert_eq!(gaps(&mut buffer), [(2, 5)]);
    assert_eq!(buffer.peek(), Some((5 * CHUNK, CHUNK)));
    buffer.rewind(0);
    assert_eq!(gaps(&mut buffer), [], "it is told once");
}

#[test]
fn a_resumed_stream_has_heard_what_it_accepted() {
    let mut buffer = buffer(10);
    push(&mut buffer, 10);
    send(&mut buffer, 10);
    push(&mut buffer, 5);
    send(&mut buffer, 5);
    buffer.rewind(12 * CHUNK);
    assert_eq!(gaps(&mut buffer), []);
    assert_eq!(buffer.peek(), Some((12 * CHUNK, CHUNK)));
    buffer.rewind(0);
    assert_eq!(gaps(&mut buffer), [(0, 5)], "until it is lost for good");
}

#[test]
fn silence_that_is_no_longer_held_is_no_loss() {
    let mut buffer = buffer(10);
    for _ in 0..30 {
        buffer.push(vec![0; 3200].into(), Instant::now());
        buffer.take();
    }
    buffer.rewind(0);
    assert_eq!(gaps(&mut buffer), []);
    assert_eq!(buffer.peek(), Some((20 * CHUNK, CHUNK)));
    send(&mut buffer, 10);
    buffer.is_utterance_open = true;
    buffer.push(vec![0; 3200].into(), Instant::now());
    buffer.rewind(0);
    assert_eq!(gaps(&mut buffer), [(20, 21)], "a quiet word is one too");
}

#[test]
fn what_is_settled_goes_and_a_chunk_is_cut_where_it_is() {
    let mut buffer = buffer(10);
    push(&mut buffer, 4);
    send(&mut buffer, 3);
    buffer.settle(2 * CHUNK + 1001);
    assert_eq!(buffer.held, 2 * CHUNK);
    buffer.rewind(0);
    assert_eq!(
        buffer.peek(),
        Some((2 * CHUNK + 1000, CHUNK - 1000)),
        "at a whole sample"
    );
    send(&mut buffer, 2);
    assert!(buffer.is_sent());
    buffer.settle(100 * CHUNK);
    assert_eq!((buffer.held, buffer.settled), (0, 4 * CHUNK));
    assert!(!buffer.is_voiced());
}

#[test]
fn when_audio_was_received_is_known_while_it_is_held() {
    let mut buffer = buffer(10);
    let now = push(&mut buffer, 4);
    assert_eq!(buffer.received(CHUNK), Some(now));
    assert_eq!(
        buffer.received(CHUNK + 2),
        Some(now + Duration::from_secs(1))
    );
    send(&mut buffer, 4);
    buffer.settle(2 * CHUNK);
    assert_eq!(buffer.received(CHUNK), None);
    assert_eq!(
        buffer.received(4 * CHUNK),
        Some(now + Duration::from_secs(3))
    );
}

#[test]
fn what_nobody_says_anything_about_is_missed() {
    let mut buffer = buffer(10);
    push(&mut buffer, 8);
    send(&mut buffer, 6);
    buffer.give_up_sent(2 * CHUNK, GapReason::ProviderLost);
    assert_eq!(gaps(&mut buffer), [(2, 6)]);
    assert_eq!(
        buffer.peek(),
        Some((6 * CHUNK, CHUNK)),
        "what was not sent stays"
    );
    buffer.drop_unsent(GapReason::Budget);
    assert_eq!(gaps(&mut buffer), [(6, 8)]);
    assert_eq!(buffer.held, 0);
    push(&mut buffer, 1);
    assert_eq!(buffer.peek(), Some((8 * CHUNK, CHUNK)), "positions go on");
}

#[test]
fn gaps_that_nobody_takes_are_bounded() {
    let mut buffer = buffer(1);
    for number in 0..100 {
        buffer.reason = if number % 2 == 0 {
            GapReason::ProviderDown
        } else {
            GapReason::ProviderBusy
        };
        push(&mut buffer, 1);
    }
    assert!(buffer.gaps.len() <= MAX_GAPS);
    let gaps = gaps(&mut buffer);
    assert_eq!(
        (gaps.first(), gaps.last()),
        (Some(&(0, 1)), Some(&(15, 99)))
    );
}

#[test]
fn memory_is_given_back() {
    let memory = Memory::new(5 * CHUNK);
    let mut one = Buffer::new(10 * CHUNK, Arc::clone(&memory));
    let mut other = Buffer::new(10 * CHUNK, Arc::clone(&memory));
    push(&mut one, 4);
    push(&mut other, 3);
    assert_eq!(memory.used(), 5 * CHUNK);
    assert_eq!(
        gaps(&mut other),
        [(0, 2)],
        "who brings too much loses the oldest"
    );
    drop(one);
    assert_eq!(memory.used(), CHUNK);
    drop(other);
    assert_eq!(memory.used(), 0);
}
