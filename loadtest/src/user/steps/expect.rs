//! Messages that steps of a flow wait for. They may come before the step.

use std::sync::Arc;

/// For each type that a step of the flow waits for: how many messages came that no step has taken yet.
pub struct Expecting {
    /// The types; empty for a flow that waits for none.
    kinds: Arc<[String]>,
    /// How many of each have come.
    come: Box<[u32]>,
    /// The type that the present step waits for.
    wanted: Option<usize>,
}

impl Expecting {
    pub fn new(kinds: Arc<[String]>) -> Self {
        let come = vec![0; kinds.len()].into();
        Self {
            kinds,
            come,
            wanted: None,
        }
    }

    /// Whether a step waits for messages, so that types must be read.
    pub fn listens(&self) -> bool {
        !self.kinds.is_empty()
    }

    fn place(&self, kind: &str) -> Option<usize> {
        self.kinds.iter().position(|known| known == kind)
    }

    /// A message of this type has come.
    pub fn hear(&mut self, kind: &str) {
        if let Some(place) = self.place(kind) {
            self.come[place] = self.come[place].saturating_add(1);
        }
    }

    /// A step starts to wait for this type.
    pub fn want(&mut self, kind: &str) {
        self.wanted = self.place(kind);
    }

    /// Whether the message has come.
    pub fn is_met(&self) -> bool {
        self.wanted.is_some_and(|place| self.come[place] > 0)
    }

    /// The step stops waiting. True: the message has come.
    pub fn take(&mut self) -> bool {
        let met = self.is_met();
        if let Some(place) = self.wanted.take().filter(|_| met) {
            self.come[place] -= 1;
        }
        met
    }

    /// The step that has just ended has taken a message of this type.
    pub fn drop_one(&mut self, kind: &str) {
        if let Some(place) = self.place(kind) {
            self.come[place] = self.come[place].saturating_sub(1);
        }
    }

    /// Forgets the messages of a room that is over.
    pub fn forget(&mut self) {
        self.come.fill(0);
        self.wanted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_taken_once_and_only_what_some_step_waits_for_is_kept() {
        let mut expecting = Expecting::new(["offer".to_owned(), "answer".to_owned()].into());
        for kind in ["offer", "pong", "offer"] {
            expecting.hear(kind);
        }
        for (kind, met) in [
            ("offer", true),
            ("answer", false),
            ("offer", true),
            ("offer", false),
        ] {
            expecting.want(kind);
            assert_eq!((expecting.is_met(), expecting.take()), (met, met), "{kind}");
        }
        expecting.hear("answer");
        expecting.forget();
        expecting.want("answer");
        assert!(!expecting.is_met());
        assert!(!Expecting::new([].into()).listens());
    }
}
