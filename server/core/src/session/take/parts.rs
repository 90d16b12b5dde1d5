//! What is long goes in parts, each `take 8 | index 2 | parts 2 | bytes`.

/// The most bytes of one part: half of what a batch between nodes has.
const PART: usize = 16 * 1024;

/// The most bytes in all. A session of which there is more is not moved.
pub(super) const MOST: usize = 512 * 1024;

/// The parts of `bytes`; `None`: it is too long.
pub(super) fn split(take: u64, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    if bytes.len() > MOST {
        return None;
    }
    let count = u16::try_from(bytes.len().div_ceil(PART).max(1)).ok()?;
    let part = |index: u16| {
        let start = (usize::from(index) * PART).min(bytes.len());
        let end = (start + PART).min(bytes.len());
        let head = [
            &take.to_be_bytes()[..],
            &index.to_be_bytes(),
            &count.to_be_bytes(),
        ];
        [&head.concat(), &bytes[start..end]].concat()
    };
    Some((0..count).map(part).collect())
}

/// Parts that have come, from the first on.
#[derive(Default)]
pub(super) struct Parts {
    next: u16,
    bytes: Vec<u8>,
}

/// One part.
pub(super) struct Part<'a> {
    pub(super) take: u64,
    index: u16,
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Part<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let (take, rest) = body.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (count, bytes) = rest.split_first_chunk()?;
        Some(Self {
            take: u64::from_be_bytes(*take),
            index: u16::from_be_bytes(*index),
            count: u16::from_be_bytes(*count),
            bytes,
        })
    }
}

impl Parts {
    /// Adds the next part; all of it, if that was the last. A part that is out of order ends it: it never becomes whole.
    pub(super) fn add(&mut self, part: &Part<'_>) -> Option<Vec<u8>> {
        if part.index == 0 {
            *self = Self::default();
        }
        if part.index != self.next || self.bytes.len() + part.bytes.len() > MOST {
            self.next = u16::MAX;
            return None;
        }
        self.bytes.extend_from_slice(part.bytes);
        self.next += 1;
        (self.next == part.count).then(|| std::mem::take(self).bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_split_comes_together_again() {
        for length in [0, 1, PART - 1, PART, PART + 1, MOST - 1, MOST] {
            let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
            let parts = split(7, &bytes).expect("not too long");
            let mut together = Parts::default();
            for (index, part) in parts.iter().enumerate() {
                let part = Part::read(part).expect("whole");
                assert_eq!(part.take, 7);
                let all = together.add(&part);
                assert_eq!(all.is_some(), index + 1 == parts.len());
                assert!(all.is_none_or(|all| all == bytes));
            }
        }
        assert!(split(7, &[0; MOST + 1]).is_none());
    }

    #[test]
    fn a_lost_part_is_noticed() {
        let bytes = [1; 5 * PART];
        for lost in 0..5 {
            let parts = split(7, &bytes).expect("not too long");
            let mut together = Parts::default();
            let rest = parts.iter().enumerate().filter(|(index, _)| *index != lost);
            for (_, part) in rest {
                let part = Part::read(part).expect("whole");
                assert!(together.add(&part).is_none());
            }
        }
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for length in 0..12 {
            assert!(Part::read(&[0; 12][..length]).is_none());
        }
    }
}
