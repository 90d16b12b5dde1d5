//! All sessions of this process, by id.

use std::sync::Arc;

use dashmap::{DashMap, Entry};
use voicematch_protocol::SessionId;

use crate::room::Member;

#[derive(Default)]
pub struct Directory {
    members: DashMap<SessionId, Arc<Member>>,
}

impl Directory {
    /// Adds a member made by `make` under a fresh random id.
    pub fn admit(&self, make: impl FnOnce(SessionId) -> Member) -> Arc<Member> {
        loop {
            let id = SessionId(rand::random());
            if let Entry::Vacant(place) = self.members.entry(id) {
                return place.insert(Arc::new(make(id))).clone();
            }
        }
    }

    /// The same under a given id; `None`: there is somebody of that id.
    pub fn admit_as(&self, id: SessionId, make: impl FnOnce() -> Member) -> Option<Arc<Member>> {
        match self.members.entry(id) {
            Entry::Vacant(place) => Some(place.insert(Arc::new(make())).clone()),
            Entry::Occupied(_) => None,
        }
    }

    pub fn remove(&self, id: SessionId) {
        self.members.remove(&id);
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member of this id.
    pub fn get(&self, id: SessionId) -> Option<Arc<Member>> {
        self.members.get(&id).map(|member| member.value().clone())
    }

    /// Some members that fit, `most` at the most.
    pub fn find(&self, most: usize, fits: impl Fn(&Member) -> bool) -> Vec<Arc<Member>> {
        let members = self.members.iter().filter(|member| fits(member.value()));
        members
            .take(most)
            .map(|member| member.value().clone())
            .collect()
    }

    /// A snapshot of all members.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.members
            .iter()
            .map(|member| member.value().clone())
            .collect()
    }
}
