//! Windows that are over, for what is found only later.

use std::{collections::VecDeque, time::Duration};

use super::{Cell, Series};

impl Series {
    /// The latest window.
    pub fn last_mut(&mut self) -> Option<&mut Cell> {
        self.levels.iter_mut().find_map(VecDeque::back_mut)
    }

    /// The window in which this moment is.
    pub fn at(&mut self, moment: Duration) -> Option<&mut Cell> {
        self.levels.iter_mut().find_map(|level| {
            let place = level.partition_point(|cell| cell.end() <= moment);
            level.get_mut(place).filter(|cell| cell.start <= moment)
        })
    }
}
