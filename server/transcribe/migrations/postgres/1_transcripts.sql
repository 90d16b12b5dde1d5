-- Times are milliseconds since 1970, except start_ms and end_ms: those count from the session's first audio.
-- Ids are made by the process that writes the row.
CREATE TABLE sessions (
    id BIGINT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    title TEXT,
    language TEXT,
    deliver TEXT NOT NULL,
    open BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL,
    ended_ms BIGINT
);

CREATE TABLE participants (
    id BIGINT PRIMARY KEY,
    session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    user_ref TEXT NOT NULL,
    name TEXT,
    role TEXT NOT NULL,
    joined_ms BIGINT NOT NULL,
    UNIQUE (session_id, user_ref)
);

CREATE TABLE tracks (
    id BIGINT PRIMARY KEY,
    session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    participant_id BIGINT NOT NULL,
    provider TEXT NOT NULL,
    provider_job TEXT,
    started_ms BIGINT NOT NULL,
    audio_ms BIGINT,
    ended_ms BIGINT
);

CREATE INDEX tracks_of_session ON tracks (session_id);

CREATE TABLE segments (
    session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    track_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL,
    language TEXT,
    confidence DOUBLE PRECISION,
    text TEXT NOT NULL,
    words TEXT,
    created_ms BIGINT NOT NULL,
    UNIQUE (session_id, seq)
);

CREATE TABLE surveys (
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (id, version)
);

CREATE TABLE survey_sessions (
    id BIGINT PRIMARY KEY,
    survey_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    session_id BIGINT,
    respondent TEXT,
    language TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    UNIQUE (survey_id, respondent)
);

CREATE TABLE answers (
    survey_session_id BIGINT NOT NULL REFERENCES survey_sessions (id) ON DELETE CASCADE,
    question_id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    value TEXT NOT NULL,
    segment_seq BIGINT,
    created_ms BIGINT NOT NULL,
    UNIQUE (survey_session_id, request_id),
    UNIQUE (survey_session_id, question_id, revision)
);
