/**
 * The messages of the wire, as the types of `server/protocol` say. Not to be edited:
 *
 *     UPDATE_GOLDEN=1 cargo test -p voicematch-protocol --lib typescript
 */

/** Why a call was not connected. */
export type CallFailure =
  /** There was no address to be reached at, or none of the partner. */
  | 'no_candidates'
  /** No way led from the one to the other. */
  | 'ice_failed'
  /** No microphone, or no leave to use it. */
  | 'microphone'
  /** It was connected, and nothing was heard. */
  | 'no_audio'
  /** One of the two left first. */
  | 'left'
  /** Something else. */
  | 'other';

/** What became of a call. */
export type CallOutcome =
  /** The two heard each other, or could have. */
  | 'connected'
  /** It could not be set up. */
  | 'failed'
  /** Somebody left before that was known. */
  | 'abandoned';

/** How the voices of a call go. */
export type CallPath =
  /** From user to user. */
  | 'direct'
  /** Over a TURN server. */
  | 'relayed'
  /** The client could not find out. */
  | 'unknown';

/** What kind of address one end of a call uses: `RTCIceCandidateType` of WebRTC. */
export type Candidate =
  /** The machine's own. */
  | 'host'
  /** What a STUN server has seen. */
  | 'srflx'
  /** What the partner has seen. */
  | 'prflx'
  /** A TURN server's. */
  | 'relay';

/** Whom a user wants to be matched with. What is absent does not matter to them. */
export interface Criteria {
  /** Topics, one of which a partner should share. */
  interests?: string[];
  /** A language to speak, such as `en`. */
  language?: string;
  /** A part of the world, such as `eu`. */
  region?: string;
}

/** Why a user reports a partner. */
export type ReportReason =
  /** Insults, threats, hate, nudity. */
  | 'abuse'
  /** Advertising, fraud, a program in place of a person. */
  | 'spam'
  /** The partner seems to be a child. */
  | 'minor'
  /** Something else. */
  | 'other';

/** What a client sends. */
export type ClientMessage = {
  /** The number of the last message of the server that has arrived. */
  ack?: number;
  /** The number of this message, from 1. */
  seq?: number;
  /** Any JSON value; comes back, byte for byte, on the message that answers this one. */
  id?: unknown;
} & (
  /** Wait for a partner. */
  | {
      type: 'find_match';
      /** Whom to be matched with (`find_match`, `next`). */
      criteria?: Criteria;
    }
  /** Stop waiting. */
  | {
      type: 'cancel_match';
    }
  /** Leave the room and wait again. */
  | {
      type: 'next';
      /** Whom to be matched with (`find_match`, `next`). */
      criteria?: Criteria;
    }
  /** Leave the room. */
  | {
      type: 'leave_room';
    }
  /** Relayed: a WebRTC session description that offers. */
  | {
      type: 'offer';
      /** What is relayed; never parsed, copied byte for byte. */
      payload: unknown;
      /** The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean. */
      to?: string;
    }
  /** Relayed: a WebRTC session description that answers. */
  | {
      type: 'answer';
      /** What is relayed; never parsed, copied byte for byte. */
      payload: unknown;
      /** The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean. */
      to?: string;
    }
  /** Relayed: a WebRTC ICE candidate. */
  | {
      type: 'ice_candidate';
      /** What is relayed; never parsed, copied byte for byte. */
      payload: unknown;
      /** The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean. */
      to?: string;
    }
  /** Relayed: chat or app data; answered with `ack` where it carries an `id`. */
  | {
      type: 'message';
      /** What is relayed; never parsed, copied byte for byte. */
      payload: unknown;
      /** The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean. */
      to?: string;
    }
  /** Answered with `pong`. */
  | {
      type: 'ping';
    }
  /** The answer to the server's `ping`, in a resumable session. */
  | {
      type: 'pong';
    }
  /** End the session at once. */
  | {
      type: 'leave';
    }
  /** Join the room of a name. */
  | {
      type: 'join_room';
      /** The name of the room. */
      room: string;
    }
  /** Go back into a room of a server that died. */
  | {
      type: 'rejoin';
      /** The room ticket. */
      ticket: string;
    }
  /** Go on with a new token of the app. */
  | {
      type: 'renew_token';
      /** The new token. */
      token: string;
    }
  /** Never meet this partner again. */
  | {
      type: 'block';
      /** The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean. */
      to?: string;
    }
  /** Tell the app of what this partner did. */
  | {
      type: 'report';
      /** The member of the room that a relay is for; absent: everyone else in it. Also whom `block` and `report` mean. */
      to?: string;
      /** What the partner did. */
      reason: ReportReason;
      /** More about it, in the user's words. */
      text?: string;
    }
  /** Tell the server how a call went. */
  | {
      type: 'call_report';
      /** From the match to the first that was heard of the partner. */
      audio_ms?: number;
      /** The kind of the user's own candidate. */
      local?: Candidate;
      /** The share of the partner's audio that was lost on its way. */
      lost_percent?: number;
      /** What became of it. */
      outcome: CallOutcome;
      /** How the voices went. */
      path?: CallPath;
      /** Why it did not connect. */
      reason?: CallFailure;
      /** The kind of the partner's. */
      remote?: Candidate;
      /** How often a new path was looked for (ICE restarts). */
      restarts?: number;
      /** Which match it was; absent: the present one, else the last. */
      room_id?: string;
      /** From the match to the connection. */
      setup_ms?: number;
    }
);

/** Why a request was refused. The session goes on; the request had no effect. */
export type ErrorCode =
  /** Not JSON, or not an object. */
  | 'bad_json'
  /** JSON, but a field is missing, doubled or of the wrong type. */
  | 'bad_message'
  /** The `type` is none that this server knows. */
  | 'unknown_type'
  /** `criteria` with too many or too long words. */
  | 'invalid_criteria'
  /** `find_match` or `next` while already waiting. */
  | 'already_waiting'
  /** `find_match` while in a room. */
  | 'already_in_room'
  /** `cancel_match` while not waiting: never asked, or the match was faster. */
  | 'not_waiting'
  /** A relay or `leave_room` outside a room: never in one, or the partner has just left. */
  | 'not_in_room'
  /** `to` names somebody who is not in the room. */
  | 'unknown_peer'
  /** A message of a resumable session whose number is not the next one: others are missing before it. */
  | 'gap'
  /** The name of a room that is none: 1 to 64 letters of the alphabet, digits, `_` and `-`. */
  | 'bad_room_name'
  /** The room has as many members as it may have. */
  | 'room_full'
  /** There are as many named rooms as there may be. */
  | 'too_many_rooms'
  /** A named room that is on another node, which cannot be reached now. */
  | 'room_unavailable'
  /** A room ticket that no key of this server has signed. */
  | 'room_ticket_invalid'
  /** A room ticket that is too old. */
  | 'room_ticket_expired'
  /** The room of a ticket has ended. */
  | 'room_closed'
  /** The session of a room ticket is still there: its resume token opens it. */
  | 'use_resume'
  /** `block`, `report` or `call_report` without a partner: no room, and none that ended a short time ago. */
  | 'no_partner'
  /** The user's token does not allow it. */
  | 'not_allowed'
  /** A token of `renew_token` that is wrong, or another user's. */
  | 'token_refused'
  /** A relay that the way to the partner's node could not take: it is not there, and may be sent again. */
  | 'relay_lost'
  /** More messages than the limit allows; this one was dropped. */
  | 'rate_limited'
  /** The server is about to stop and makes no new matches. */
  | 'draining';

/** One entry of `RTCConfiguration.iceServers` (<https://www.w3.org/TR/webrtc/#rtciceserver-dictionary>). */
export interface IceServer {
  /** For TURN. */
  credential?: string;
  /** `stun:`, `stuns:`, `turn:` or `turns:` addresses. */
  urls: string[];
  /** For TURN. */
  username?: string;
}

/** Why a user left a room (`peer_left`). */
export type LeaveReason =
  | 'closed'
  | 'disconnected'
  | 'draining'
  | 'heartbeat_timeout'
  | 'idle_timeout'
  | 'internal_error'
  | 'invalid_utf8'
  | 'left'
  | 'lost'
  | 'memory_limit'
  | 'moved'
  | 'next'
  | 'protocol_error'
  | 'rate_limited'
  | 'replaced'
  | 'resume_overflow'
  | 'resume_refused'
  | 'slow_consumer'
  | 'token_expired'
  | 'too_large'
  | 'too_old'
  | 'unsupported_data';

/** What the server allows one session. */
export interface Limits {
  /** The longest message, in bytes. */
  max_message_bytes: number;
  /** Messages a second in the long run; 0: no limit. */
  max_messages_per_second: number;
  /** Messages that may come at once on top of that. */
  message_burst: number;
}

/** The relayed messages: they go to the partner with the `type` they came with. */
export type RelayKind =
  /** A WebRTC offer. */
  | 'offer'
  /** A WebRTC answer. */
  | 'answer'
  /** A WebRTC ICE candidate. */
  | 'ice_candidate'
  /** Chat or app data. */
  | 'message';

/** Where the user of a resumed session is. */
export type ResumedPlace =
  /** Neither waiting nor in a room. */
  | 'idle'
  /** In a pool. */
  | 'waiting'
  /** In a match or in a named room. */
  | 'in_room';

/** The room of a resumed session. */
export interface ResumedRoom {
  /** The others in it. */
  peers: string[];
  /** Its name, if it has one. */
  room?: string;
  /** Its id. */
  room_id: string;
}

/** Another member of a named room, as the user sees them. */
export interface RoomMember {
  /** Whether they have no connection now. */
  away?: boolean;
  /** Whether they take lists of candidates in one message. */
  batch?: boolean;
  /** Their number. */
  n: number;
  /** What the app calls them. */
  name?: string;
  /** Whether the user makes the offer to them: the newcomer of two does. */
  offer: boolean;
  /** Who. */
  peer_id: string;
  /** Whether the user gives way when two offers cross (perfect negotiation, <https://www.w3.org/TR/webrtc/#perfect-negotiation-example>). */
  polite: boolean;
  /** The `peer_id` that they had in this room at another server, from which they came with their ticket. */
  was?: string;
}

/** The user in a named room. */
export interface RoomSelf {
  /** The number by which the room knows them: one more for each who comes. */
  n: number;
  /** The id by which the others know the user. */
  peer_id: string;
}

/** What the server sends. */
export type ServerMessage = {
  /** In a resumable session: the number of this message, from 1. */
  seq?: number;
} & (
  /** The first message of every connection. */
  | {
      type: 'session';
      /** The longest time between two of the server's pings, and to the first one of each connection, in milliseconds. A `ping` of a resumable session says when the next one comes. */
      heartbeat_ms: number;
      /** STUN and TURN servers for `RTCPeerConnection`. */
      ice_servers: IceServer[];
      /** What the server allows. */
      limits: Limits;
      /** Where the session is resumable: what a later connection must show. */
      resume_token?: string;
      /** How long the session waits for a new connection, in milliseconds. */
      resume_window_ms?: number;
      /** The id by which partners know this user. */
      session_id: string;
    }
  /** The first message of a connection that carries a session on. What follows it was sent before. */
  | {
      type: 'resumed';
      /** The number of the last message that the server takes for arrived. */
      after: number;
      /** Which connection of the session this is. */
      epoch: number;
      /** STUN and TURN servers for `RTCPeerConnection`. */
      ice_servers: IceServer[];
      /** Where the user is now, when all that is sent again is taken into account. */
      place: ResumedPlace;
      /** The number of the last message of the client that has arrived: send again what comes after it. */
      received: number;
      /** How many messages are sent again. */
      replay: number;
      /** What the next connection must show. Absent: the token stays. */
      resume_token?: string;
      /** The room, where the user is in one. */
      room?: ResumedRoom;
      /** As it was. */
      session_id: string;
    }
  /** Whether the user of a resumable session is still there; to be answered with `pong`. */
  | {
      type: 'ping';
      /** When the next one comes, in milliseconds; nothing for much longer means that the connection is lost. */
      next_ms: number;
      /** The number of the last message of the client that has arrived. */
      received: number;
    }
  /** In a resumable session: new credentials for TURN, before the old ones end; for `RTCPeerConnection.setConfiguration`. */
  | {
      type: 'ice_servers';
      /** STUN and TURN servers. */
      ice_servers: IceServer[];
    }
  /** In a resumable session: the app's token ends soon; `renew_token` brings a new one. */
  | {
      type: 'token_expiring';
      /** When, in milliseconds. */
      expires_in_ms: number;
    }
  /** The user is in a pool. */
  | {
      type: 'waiting';
      /** The `id` of the request. */
      id?: unknown;
    }
  /** A partner was found. */
  | {
      type: 'match_found';
      /** In a resumable session: whether the partner takes lists of candidates in one message. */
      batch?: boolean;
      /** The `id` of the request, where the match answers it at once. */
      id?: unknown;
      /** Whether this user makes the offer: true for exactly one of the two. */
      initiator: boolean;
      /** The partner. */
      peer_id: string;
      /** What the app calls the partner. */
      peer_name?: string;
      /** The room both are in. */
      room_id: string;
      /** In a resumable session: what brings the user back into the room if the server dies. */
      room_ticket?: string;
      /** What both named as interests. */
      shared_interests: string[];
      /** How long this user waited, in milliseconds. */
      waited_ms: number;
    }
  /** The partner left; the room is gone and this user is idle. */
  | {
      type: 'peer_left';
      /** Who left; the user's own id: they are out of a named room. */
      peer_id: string;
      /** Why. */
      reason: LeaveReason;
      /** The room that is gone. */
      room_id: string;
    }
  /** In a resumable session: some messages of the partner, who is on another node, are lost. The room goes on; what was being agreed on, such as a call, is to be agreed on anew. */
  | {
      type: 'relay_gap';
      /** Whose messages. */
      peer_id: string;
      /** The room. */
      room_id: string;
    }
  /** The user is in a named room. */
  | {
      type: 'room_joined';
      /** The `id` of the request. */
      id?: unknown;
      /** The others. */
      members: RoomMember[];
      /** Its name. */
      room: string;
      /** Its id, of this time: a room of the same name after it has another one. */
      room_id: string;
      /** In a resumable session: what brings the user back into the room if the server dies. */
      room_ticket?: string;
      /** The user. */
      you: RoomSelf;
    }
  /** Somebody has joined the user's named room. */
  | {
      type: 'peer_joined';
      /** Whether they have no connection now. */
      away?: boolean;
      /** Whether they take lists of candidates in one message. */
      batch?: boolean;
      /** Their number. */
      n: number;
      /** What the app calls them. */
      name?: string;
      /** Whether the user makes the offer to them: the newcomer of two does. */
      offer: boolean;
      /** Who. */
      peer_id: string;
      /** Whether the user gives way when two offers cross (perfect negotiation, <https://www.w3.org/TR/webrtc/#perfect-negotiation-example>). */
      polite: boolean;
      /** The room. */
      room_id: string;
      /** The `peer_id` that they had in this room at another server, from which they came with their ticket. */
      was?: string;
    }
  /** The user waits for the other member of a room that died with another process. */
  | {
      type: 'rejoining';
      /** How long, in milliseconds. */
      expires_in_ms: number;
      /** The room. */
      room_id: string;
    }
  /** Both members of such a room are in it again. */
  | {
      type: 'rejoined';
      /** As before. */
      initiator: boolean;
      /** The partner, who has a new session. */
      peer_id: string;
      /** The room, as before. */
      room_id: string;
      /** A new one. */
      room_ticket?: string;
    }
  /** A request that has no other answer was carried out. */
  | {
      type: 'ack';
      /** The `id` of the request. */
      id: unknown;
    }
  /** The answer to `ping`. */
  | {
      type: 'pong';
      /** The `id` of the request. */
      id?: unknown;
    }
  /** A request was refused. */
  | {
      type: 'error';
      /** What was wrong, for programs. */
      code: ErrorCode;
      /** The `id` of the request, where it could be read. */
      id?: unknown;
      /** What was wrong and what to do, for people. */
      message: string;
      /** With `gap`: the number of the last message that has arrived. */
      received?: number;
      /** Whether the same request may succeed later. */
      temporary: boolean;
    }
  /** The server is going away. */
  | {
      type: 'draining';
      /** When to reconnect, in milliseconds from now; spread so that not everyone comes at once. */
      reconnect_in_ms: number;
    }
  /** What another user has sent. */
  | {
      type: RelayKind;
      /** Who. */
      from: string;
      /** As it was sent: any JSON value. */
      payload: unknown;
    }
);
