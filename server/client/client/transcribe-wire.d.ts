/** The messages of `/transcribe`, as `server/protocol` has them; `fixtures.test.js` holds them against its fixtures. */

type Id = unknown;

export type Role = 'host' | 'speaker' | 'listener';
export type ProviderState = 'ok' | 'slow' | 'silent' | 'reconnecting' | 'busy' | 'down' | 'paused';
export type EndReason = 'host' | 'app' | 'idle' | 'max_duration' | 'deleted';

export type Said =
  | { type: 'start'; sample_rate?: number; language?: string; ack?: 'second' | 'each'; live?: boolean }
  | { type: 'audio_chunk'; data: { chunk: string } }
  | { type: 'pause' }
  | { type: 'resume_audio' }
  | { type: 'stop' }
  | { type: 'ping'; id?: Id }
  | { type: 'tool'; id?: Id; name: string; arguments?: object; answer?: unknown };

export type Ready = { type: 'ready'; session: string; participant: string; role: Role; provider?: string; next_seq: number; limits: { frame_bytes: number; tracks: number } };
export type Partial = { type: 'partial'; utterance: string; revision: number; speaker: string; start_ms: number; text: string };
export type Final = { type: 'final'; seq: number; utterance?: string; speaker: string; start_ms: number; end_ms: number; language?: string; confidence?: number; text: string; replayed?: boolean };
export type Gap = { type: 'gap'; seq: number; speaker: string; from_ms: number; to_ms: number; reason: string; replayed?: boolean };
export type Ended = { type: 'ended'; reason: EndReason; audio_ms: number; segments: number; stored_through: number };

export type Told =
  | Ready | Partial | Final | Gap | Ended
  | { type: 'audio_ack'; ms: number }
  | { type: 'stored'; through: number }
  | { type: 'moved'; url: string }
  | { type: 'lost'; from_seq: number; to_seq: number }
  | { type: 'provider_state'; speaker: string; state: ProviderState; retry_in_ms?: number }
  | { type: 'tool_result'; id?: Id; ok: boolean; result?: object; code?: string; message?: string }
  | { type: 'pong'; id?: Id }
  | { type: 'error'; code: string; message: string; measured_hz?: number };
