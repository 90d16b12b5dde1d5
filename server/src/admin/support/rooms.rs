//! Rooms: who is in them, and since when.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use voicematch_core::room::{
    Room, Standing,
    named::{NamedRoom, NamedRooms},
};
use voicematch_protocol::RoomId;

use super::{
    Admin, Answered, Guarded, Problem, Refusal, ago, extract::Named, ok, sessions::SessionLine,
};

/// A room
#[derive(Serialize, ToSchema)]
pub(super) struct RoomAnswer {
    #[schema(pattern = "^[0-9a-f]{16}$")]
    room: String,
    /// That of a named room
    name: Option<String>,
    /// When it was opened
    #[schema(format = DateTime)]
    since: String,
    members: Vec<RoomMember>,
}

/// Somebody in a room
#[derive(Serialize, ToSchema)]
pub(super) struct RoomMember {
    /// The number of a member of a named room
    n: Option<u32>,
    #[serde(flatten)]
    session: SessionLine,
}

impl RoomAnswer {
    pub(super) fn of(room: &Room) -> Self {
        let members = room.members().iter().map(|member| RoomMember {
            n: None,
            session: SessionLine::of(member),
        });
        Self {
            room: room.id.to_string(),
            name: None,
            since: ago(room.age()),
            members: members.collect(),
        }
    }

    pub(super) fn of_named(room: &NamedRoom, rooms: &NamedRooms) -> Self {
        let members = room.members();
        let members = members.iter().map(|(n, member)| RoomMember {
            n: Some(*n),
            session: SessionLine::of(member),
        });
        Self {
            room: room.id.to_string(),
            name: Some(room.name.to_string()),
            since: ago(rooms.age(room)),
            members: members.collect(),
        }
    }
}

/// A room, by its id
#[utoipa::path(get, path = "/support/rooms/{id}", tag = "support", security(("token" = [])),
    params(("id" = String, Path, description = "The room_id of match_found or room_joined", pattern = "^[0-9a-fA-F]{16}$")),
    responses(
        (status = 200, body = RoomAnswer, description = "The room"),
        (status = 404, body = Problem, description = "Nobody is in a room of this id"),
        Guarded,
    )
)]
pub(super) async fn show_room(
    State(admin): State<Arc<Admin>>,
    Named(id): Named<RoomId>,
) -> Answered<RoomAnswer> {
    // Rooms are known to their members only: a list of them would have to be kept for each match.
    let members = admin.context.directory.members();
    let found = members.iter().find_map(|member| match member.standing() {
        Standing::InRoom(room) if room.id == id => Some(RoomAnswer::of(&room)),
        Standing::InNamedRoom(room) if room.id == id => {
            Some(RoomAnswer::of_named(&room, &admin.context.named_rooms))
        }
        _ => None,
    });
    match found {
        Some(room) => ok(room),
        None => Err(Refusal::not_found("nobody is in a room of this id")),
    }
}

/// A named room, by its name
#[utoipa::path(get, path = "/support/named-rooms/{name}", tag = "support", security(("token" = [])),
    params(("name" = String, Path, description = "The name", pattern = "^[A-Za-z0-9_-]{1,64}$")),
    responses(
        (status = 200, body = RoomAnswer, description = "The room"),
        (status = 404, body = Problem, description = "Nobody is in a room of this name"),
        Guarded,
    )
)]
pub(super) async fn show_named_room(
    State(admin): State<Arc<Admin>>,
    Named(name): Named<String>,
) -> Answered<RoomAnswer> {
    let rooms = &admin.context.named_rooms;
    match rooms.get(&name) {
        Some(room) => ok(RoomAnswer::of_named(&room, rooms)),
        None => Err(Refusal::not_found("nobody is in a room of this name")),
    }
}
