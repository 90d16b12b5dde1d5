//! One page.
use crate::record::Record;
pub(super) fn html(_record: &Record) -> String {
    String::new()
}
