//! What users do about partners who misbehave: they block them, and report them to the app.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use voicematch_protocol::{ClientType, ErrorCode, Report, ReportReason, Request, RoomId};

use super::{
    Pending, Session,
    requests::{Refusal, detail, unknown_peer},
};
use crate::{
    events::{Data, EventKind},
    matchmaker::Parted,
    room::{Member, Room},
};

/// How long after the end of a room the partner can still be blocked and reported, and the call.
const AFTER_THE_END: Duration = Duration::from_secs(60);

/// The longest text of a report, in bytes.
const MAX_TEXT_BYTES: usize = 500;

/// Whom a user means, and where the two were together.
struct About {
    member: Arc<Member>,
    room_id: RoomId,
    /// The name of the room, if it has one.
    room: Option<Box<str>>,
}

impl Session {
    #[inline(never)]
    pub(super) fn block_or_report(
        &mut self,
        text: &str,
        request: &Request<'_>,
        read_at: Instant,
        pending: &mut Pending,
    ) -> Result<(), Refusal> {
        self.context.metrics.request(request.kind);
        // To end a room writes to users directly and must not overtake earlier messages.
        self.flush(read_at, pending);
        let about = self.about(request.to.as_deref())?;
        match request.kind {
            ClientType::Block => self.block(&about, read_at),
            _ => self.report(text, &about)?,
        }
        let id: Option<&RawValue> = request.id;
        self.acknowledge(id, pending);
        Ok(())
    }

    /// Whom the user means: a member of their room, or the partner of one that has ended a short time ago.
    fn about(&self, to: Option<&str>) -> Result<About, Refusal> {
        let own = self.member.id;
        let named = self.member.named_room();
        if let (Some(_), None) = (&named, to) {
            let text = "`to` is missing: in a named room it says which member you mean";
            return Err(Refusal::new(ErrorCode::BadMessage, text));
        }
        let member = named
            .as_ref()
            .zip(to)
            .and_then(|(room, to)| room.member(to));
        if let (Some(room), Some(member)) = (&named, member.filter(|member| member.id != own)) {
            return Ok(About {
                member,
                room_id: room.id,
                room: Some(room.name.clone()),
            });
        }
        let mut rooms = self.recent_rooms().peekable();
        if named.is_none() && rooms.peek().is_none() {
            let text = "there is no partner: you are in no room, and none of yours has ended in the last minute";
            return Err(Refusal::new(ErrorCode::NoPartner, text));
        }
        let meant =
            |room: &Arc<Room>| to.is_none_or(|to| to.as_bytes() == room.peer_of(own).id.digits());
        let room = rooms.find(meant).ok_or_else(unknown_peer)?;
        Ok(About {
            member: room.peer_of(own).clone(),
            room_id: room.id,
            room: None,
        })
    }

    /// The rooms of two that can still be spoken of: the present one, and the last.
    pub(super) fn recent_rooms(&self) -> impl Iterator<Item = Arc<Room>> {
        let rooms = [self.member.last_room(), self.last_room.clone()];
        let rooms = rooms.into_iter().flatten();
        rooms.filter(|room| room.ended_since() <= AFTER_THE_END)
    }

    fn block(&mut self, about: &About, now: Instant) {
        let (matchmaker, ticket) = (&self.context.matchmaker, self.ticket.as_deref());
        let (is_new, parted) = matchmaker.part(&self.member, &about.member, ticket, now);
        match parted {
            Parted::Left(room) => {
                self.room = None;
                self.last_room = Some(room);
            }
            Parted::Again(ticket) => {
                self.keep_ticket(ticket, now);
                // They know that they wait.
                self.is_untold = false;
            }
            Parted::Unmoved => {}
        }
        if !is_new {
            return;
        }
        self.context.metrics.blocks.inc();
        let (by, of) = (&self.member, &about.member);
        if self.context.close_log.blocks.has_room() {
            tracing::info!(session = %by.id, user = by.user(), peer = %of.id, peer_user = of.user(), "blocked");
        }
        self.tell_about(EventKind::BlockMade, about, None);
    }

    fn report(&self, text: &str, about: &About) -> Result<(), Refusal> {
        let report: Report<'_> = serde_json::from_str(text)
            .map_err(|error| Refusal(ErrorCode::BadMessage, wrong_report(&error)))?;
        let bytes = report.text.as_ref().map_or(0, |text| text.len());
        if bytes > MAX_TEXT_BYTES {
            let text = format!("`text` has {bytes} bytes; send at most {MAX_TEXT_BYTES}");
            return Err(Refusal(ErrorCode::BadMessage, text));
        }
        self.context.metrics.reported(report.reason);
        let (by, of) = (&self.member, &about.member);
        if self.context.close_log.reports.has_room() {
            let reason = report.reason.as_str();
            tracing::info!(session = %by.id, user = by.user(), peer = %of.id, peer_user = of.user(), reason, "reported");
        }
        self.tell_about(EventKind::ReportMade, about, Some(&report));
        Ok(())
    }

    fn tell_about(&self, kind: EventKind, about: &About, report: Option<&Report<'_>>) {
        self.context.shared.tell(kind, || Data::About {
            room_id: about.room_id,
            room: about.room.clone(),
            by: self.member.party(),
            about: about.member.party(),
            reason: report.map(|report| report.reason),
            text: report.and_then(|report| report.text.as_deref().map(Into::into)),
        });
    }
}

fn wrong_report(error: &serde_json::Error) -> String {
    let reasons: Vec<_> = ReportReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .collect();
    let (reasons, error) = (reasons.join(", "), detail(error));
    format!("a report has `reason`, one of {reasons}, and may have `text`: {error}")
}
