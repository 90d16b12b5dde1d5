//! The messages that steps of a flow wait for, which may come before the step does.

use std::sync::Arc;

/// How often each type came that some step of the flow waits for, and that none has taken yet.
pub struct Expecting {
    /// The types; of a flow that waits for none, nothing.
    kinds: Arc<[String]>,
    /// How often each has come.
    come: Box<[u32]>,
    /// The one that is waited for now.
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

    /// Some step waits for messages, so that their types have to be read.
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

    /// A step waits for this type from now on.
    pub fn want(&mut self, kind: &str) {
        self.wanted = self.place(kind);
    }

    /// What is wanted is there.
    pub fn is_met(&self) -> bool {
        self.wanted.is_some_and(|place| self.come[place] > 0)
    }

    /// The step waits no more. True: it has what it wanted.
    pub fn take(&mut self) -> bool {
        let met = self.is_met();
        if let Some(place) = self.wanted.take().filter(|_| met) {
            self.come[place] -= 1;
        }
        met
    }

    /// A message of this type was for the step that has just ended.
    pub fn drop_one(&mut self, kind: &str) {
        if let Some(place) = self.place(kind) {
            self.come[place] = self.come[place].saturating_sub(1);
        }
    }

    /// What came belongs to a talk that is over.
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
