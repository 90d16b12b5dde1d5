-- Which process numbers the segments of a session: one at a time. Until `until_ms`, by the database's clock, no other does.
CREATE TABLE session_owners (
    session_id BIGINT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    owner BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);

CREATE INDEX sessions_of_owner ON session_owners (owner);

-- Whoever leads an interview over the session's own socket need not name it.
CREATE INDEX interviews_of_session ON survey_sessions (session_id, started_ms);

-- What the provider calls its pieces of work on a track, and where in the session the audio of each begins.
CREATE TABLE provider_jobs (
    track_id BIGINT NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    job TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    PRIMARY KEY (track_id, job)
);

ALTER TABLE tracks DROP COLUMN provider_job;
