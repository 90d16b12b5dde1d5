/** The messages of the wire, as `server/protocol` has them; `fixtures.test.js` holds them against its fixtures. */

type Id = unknown;

export interface IceServer {
  urls: string[];
  username?: string;
  credential?: string;
}

export interface Criteria {
  language?: string;
  region?: string;
  interests?: string[];
}

export interface Limits {
  max_message_bytes: number;
  max_messages_per_second: number;
  message_burst: number;
}

export interface RoomMember {
  peer_id: string;
  n: number;
  name?: string;
  offer: boolean;
  polite: boolean;
  batch?: boolean;
  away?: boolean;
}

export type Relayed = 'offer' | 'answer' | 'ice_candidate' | 'message';
export type ReportReason = 'abuse' | 'spam' | 'minor' | 'other';

export type ServerMessage = { seq?: number } & (
  | { type: 'session'; session_id: string; resume_token?: string; resume_window_ms?: number; heartbeat_ms: number; ice_servers: IceServer[]; limits: Limits }
  | { type: 'resumed'; session_id?: string; resume_token?: string; epoch?: number; after?: number; received: number; replay?: number; place?: 'idle' | 'waiting' | 'in_room'; room?: { room?: string; room_id: string; peers: string[] }; ice_servers?: IceServer[] }
  | { type: 'ping'; received: number; next_ms: number }
  | { type: 'ice_servers'; ice_servers: IceServer[] }
  | { type: 'token_expiring'; expires_in_ms: number }
  | { type: 'waiting'; id?: Id }
  | { type: 'match_found'; room_id: string; peer_id: string; peer_name?: string; batch?: boolean; initiator: boolean; waited_ms: number; shared_interests: string[]; room_ticket?: string; id?: Id }
  | { type: 'peer_left'; room_id: string; peer_id: string; reason: string }
  | { type: 'room_joined'; room: string; room_id: string; you: { peer_id: string; n: number }; members: RoomMember[]; room_ticket?: string; id?: Id }
  | ({ type: 'peer_joined'; room_id: string } & RoomMember)
  | { type: 'rejoining'; room_id: string; expires_in_ms: number }
  | { type: 'rejoined'; room_id: string; peer_id: string; initiator: boolean; room_ticket?: string }
  | { type: Relayed; from: string; payload: unknown }
  | { type: 'ack'; id: Id }
  | { type: 'pong'; id?: Id }
  | { type: 'error'; code: string; message: string; temporary: boolean; received?: number; id?: Id }
  | { type: 'draining'; reconnect_in_ms: number }
);
