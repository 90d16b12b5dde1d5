//! What clients tell of their calls: how they were set up, and how they sounded. It is counted, and trusted for nothing
//! else.

use std::num::NonZero;

use voicematch_protocol::{CallOutcome, CallReport, ErrorCode, Request, RoomId};

use super::{
    Pending, Session,
    requests::{Refusal, detail},
};

/// The longest time from a match to a call, in milliseconds: a longer one is no measurement.
const MAX_MS: u32 = 10 * 60 * 1000;

/// The same for new paths in one call.
const MAX_RESTARTS: u32 = 1000;

/// Reports of one user from one `join_room` to the next, while others come and go: of more calls nobody needs to know.
const MAX_OF_ROOM: u8 = 200;

impl Session {
    /// Counts how the call of the present match went, or of the last one; once for each, in the order of the matches. In a
    /// named room: how one with another member did.
    #[inline(never)]
    pub(super) fn call_report(
        &mut self,
        text: &str,
        request: &Request<'_>,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        self.context.metrics.request(request.kind);
        let rooms: Vec<_> = self.recent_rooms().map(|room| room.id).collect();
        let Some(resume) = &mut self.resume else {
            let text = "call_report is for sessions that outlive their connections";
            return Err(Refusal::new(ErrorCode::BadMessage, text));
        };
        let report: CallReport = serde_json::from_str(text).map_err(|error| {
            let text = format!("this is no call report; see the README: {}", detail(&error));
            Refusal(ErrorCode::BadMessage, text)
        })?;
        if let Some(fault) = fault(&report) {
            return Err(Refusal::new(ErrorCode::BadMessage, fault));
        }
        if report.room_id.is_none() && self.member.named_room().is_some() {
            if resume.room_reports >= MAX_OF_ROOM {
                let text = format!(
                    "you have reported {MAX_OF_ROOM} calls of this room; no more are counted"
                );
                return Err(Refusal(ErrorCode::NoPartner, text));
            }
            resume.room_reports += 1;
            self.context.metrics.calls.reported(&report);
            self.acknowledge(request.id, pending);
            return Ok(());
        }
        // The latest comes first, so what comes after a reported one can no longer be reported.
        let number = |room: &RoomId| NonZero::new(room.0);
        let mut rooms = rooms
            .iter()
            .take_while(|room| number(room) != resume.reported);
        let Some(room) = rooms.find(|room| report.room_id.is_none_or(|id| id == **room)) else {
            let text = "there is no such call to report: you were in no such match in the last minute, or have reported it or a later one";
            return Err(Refusal::new(ErrorCode::NoPartner, text));
        };
        resume.reported = number(room);
        self.context.metrics.calls.reported(&report);
        self.acknowledge(request.id, pending);
        Ok(())
    }
}

/// What is wrong with a report that could be read.
fn fault(report: &CallReport) -> Option<String> {
    if report.outcome == CallOutcome::Connected && report.reason.is_some() {
        return Some("`reason` is for calls that were not connected".to_owned());
    }
    for (name, value, most) in [
        ("setup_ms", report.setup_ms, MAX_MS),
        ("audio_ms", report.audio_ms, MAX_MS),
        ("restarts", report.restarts, MAX_RESTARTS),
    ] {
        if value.is_some_and(|value| value > most) {
            return Some(format!("`{name}` is 0 to {most}"));
        }
    }
    let lost = report.lost_percent;
    lost.filter(|lost| !(0.0..=100.0).contains(lost))
        .map(|_| "`lost_percent` is 0 to 100".to_owned())
}
