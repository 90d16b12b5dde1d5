//! The segments of a session in the order in which they were spoken, of which only a page is in memory.
//!
//! They are numbered as they become text, and who has spoken for longer is behind who began later. So their times are read
//! first, and then the segments, page by page of that order.

use std::{collections::HashMap, sync::Arc};

use crate::{
    record::{RowId, Segment},
    store::{Store, StoreError},
};

/// Segments that are read at once.
const PAGE: u32 = 200;

/// Segments of one file: their times are in memory, about 4 MB.
const MOST: usize = 200_000;

/// See [`spoken`](self).
pub(super) struct Spoken {
    store: Arc<dyn Store>,
    session: RowId,
    /// When each began, and its number.
    order: Vec<(i64, i64)>,
    /// So many of them were read.
    read: usize,
}

impl Spoken {
    /// The segments behind the number `after`; and where more than one file may have are left, the number behind which they are.
    pub(super) async fn begin(
        store: Arc<dyn Store>,
        session: RowId,
        after: i64,
    ) -> Result<(Self, Option<i64>), StoreError> {
        let (mut order, mut last) = (Vec::new(), after);
        let next = loop {
            let page = store.segments(session, last, PAGE).await?;
            let Some(end) = page.last() else { break None };
            if order.len() >= MOST {
                break Some(last);
            }
            last = end.seq;
            order.extend(page.iter().map(|segment| (segment.start_ms, segment.seq)));
        };
        order.sort_unstable();
        let spoken = Self {
            store,
            session,
            order,
            read: 0,
        };
        Ok((spoken, next))
    }

    /// The next ones; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Segment>, StoreError> {
        let left = &self.order[self.read..];
        let page = &left[..left.len().min(PAGE as usize)];
        let mut found = self.find(page).await?;
        let segments = page.iter().map(|(_, seq)| found.remove(seq));
        let segments = segments.collect::<Option<Vec<_>>>().ok_or_else(gone)?;
        self.read += segments.len();
        Ok(segments)
    }

    /// These segments by their numbers, which are close to each other, but for those of a gap that was filled later.
    async fn find(&self, page: &[(i64, i64)]) -> Result<HashMap<i64, Segment>, StoreError> {
        let mut wanted: Vec<_> = page.iter().map(|(_, seq)| *seq).collect();
        wanted.sort_unstable();
        let mut found = HashMap::new();
        let mut left = &wanted[..];
        while let (Some(first), Some(last)) = (left.first(), left.last()) {
            let limit = u32::try_from(last - first + 1).map_or(PAGE, |count| count.min(PAGE));
            let rows = self.store.segments(self.session, first - 1, limit).await?;
            let read_to = rows.last().ok_or_else(gone)?.seq;
            for row in rows {
                if wanted.binary_search(&row.seq).is_ok() {
                    found.insert(row.seq, row);
                }
            }
            left = &left[left.partition_point(|seq| *seq <= read_to)..];
        }
        Ok(found)
    }
}

fn gone() -> StoreError {
    StoreError::Temporary("segments are no longer there: the session was deleted".to_owned())
}
