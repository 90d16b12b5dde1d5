//! What to do about a run, by rules on what it measured. Each piece of advice comes with its evidence, and a
//! rule without evidence says nothing.

mod rules;

use crate::record::{Advice, Record};

/// All advice on a run, the most pressing first: what makes its figures worthless, what is wrong, what is
/// slow, and what is near its limits.
pub fn advise(record: &Record) -> Vec<Advice> {
    rules::ALL.iter().filter_map(|rule| rule(record)).collect()
}
