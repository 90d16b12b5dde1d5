//! Whom something is told.

use voicematch_protocol::transcribe::{Deliver, ProviderState, Role, Told, TranscribeError};

use super::{Person, Session, State};
use crate::{
    bridge::Failure,
    record::{RowId, Segment, SegmentKind},
    track::Refused,
};

/// A message as it goes over the wire.
pub(super) fn write(told: &Told<'_>) -> String {
    // Texts and numbers: writing them cannot fail.
    serde_json::to_string(told).unwrap_or_default()
}

/// A segment as a message. `utterance`: of its partials, if they were told over this connection.
pub(super) fn segment(
    segment: &Segment,
    utterance: Option<&str>,
    speaker: &str,
    replayed: bool,
) -> String {
    write(&match segment.kind {
        SegmentKind::Final => Told::Final {
            seq: segment.seq,
            utterance,
            speaker,
            start_ms: segment.start_ms,
            end_ms: segment.end_ms,
            language: segment.language.as_deref(),
            confidence: segment.confidence,
            text: &segment.text,
            replayed,
        },
        SegmentKind::Gap => Told::Gap {
            seq: segment.seq,
            speaker,
            from_ms: segment.start_ms,
            to_ms: segment.end_ms,
            reason: &segment.text,
            replayed,
        },
    })
}

impl Session {
    /// Whether somebody receives what `speaker` says.
    pub(super) fn receives(&self, who: RowId, role: Role, speaker: RowId) -> bool {
        match self.deliver {
            _ if role == Role::Host => true,
            Deliver::Host => false,
            Deliver::Own => who == speaker,
            Deliver::Listeners => role == Role::Listener,
        }
    }

    /// Those who receive what `speaker` says.
    fn receivers<'a>(
        &'a self,
        state: &'a State,
        speaker: RowId,
    ) -> impl Iterator<Item = &'a Person> {
        let people = state.people.iter();
        people
            .filter(move |(id, person)| self.receives(**id, person.role, speaker))
            .map(|(_, person)| person)
    }

    /// The log, or what is stored of it, has grown.
    pub(super) fn tell_log(&self, state: &State) {
        state.mailboxes().for_each(|mailbox| mailbox.log_grew());
    }

    pub(super) fn tell_partial(
        &self,
        state: &State,
        speaker: RowId,
        utterance: &str,
        message: &str,
    ) {
        let there = self.receivers(state, speaker).filter_map(Person::mailbox);
        there.for_each(|mailbox| mailbox.send_partial(utterance, message.to_owned()));
    }

    /// Why a speaker is not transcribed: for those who receive what it says, and for the speaker.
    pub(super) fn tell_failure(&self, state: &State, speaker: RowId, failure: Failure) {
        let (code, message) = match failure {
            Failure::ProviderDown => (
                TranscribeError::ProviderDown,
                "the provider does not transcribe now; audio of the last seconds is kept, and it is asked again",
            ),
            Failure::ProviderBusy => (
                TranscribeError::ProviderBusy,
                "the provider has no place for this speaker; it is asked again",
            ),
            Failure::Budget => (
                TranscribeError::Budget,
                "as much audio was transcribed today as the operator allows",
            ),
            Failure::MaxDuration => (
                TranscribeError::Budget,
                "this speaker has spoken as long as a session may go on",
            ),
        };
        self.parts.metrics.refused(code);
        let message = write(&Told::Error {
            code,
            message,
            measured_hz: None,
        });
        self.tell_concerned(state, speaker, &message);
    }

    /// Why nothing of a speaker is taken: for those who receive what they say. The speaker is told with each frame.
    pub(super) fn tell_wrong_rate(&self, state: &State, speaker: RowId, refused: &Refused) {
        let Some(name) = state.people.get(&speaker).map(|person| &*person.name) else {
            return;
        };
        let message = write(&Told::Error {
            code: refused.code,
            message: &format!("{name} is not heard: {}", refused.message),
            measured_hz: refused.measured_hz,
        });
        let people = state.people.iter();
        let others = people
            .filter(|(id, person)| **id != speaker && self.receives(**id, person.role, speaker));
        let there = others.filter_map(|(_, person)| person.mailbox());
        there.for_each(|mailbox| mailbox.send(message.clone()));
    }

    /// Tells those who receive what a speaker says, and the speaker.
    fn tell_concerned(&self, state: &State, speaker: RowId, message: &str) {
        let people = state.people.iter();
        let concerned = people
            .filter(|(id, person)| **id == speaker || self.receives(**id, person.role, speaker));
        let there = concerned.filter_map(|(_, person)| person.mailbox());
        there.for_each(|mailbox| mailbox.send(message.to_owned()));
    }

    /// How the recogniser of a speaker is: for those who receive what it says, and for the speaker.
    pub(super) fn tell_state(
        &self,
        state: &State,
        speaker: RowId,
        provider: ProviderState,
        retry_in_ms: Option<u64>,
    ) {
        let Some(name) = state.people.get(&speaker).map(|person| &*person.name) else {
            return;
        };
        let message = write(&Told::ProviderState {
            speaker: name,
            state: provider,
            retry_in_ms,
        });
        self.tell_concerned(state, speaker, &message);
    }
}
