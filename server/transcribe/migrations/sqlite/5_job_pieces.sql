-- Where a piece of work of the provider goes on with other audio than what comes next in the session: after a pause, and after audio
-- that it never got. `number` counts the pieces of a track; a later one takes the place of what is said of the job from `job_ms` on.
CREATE TABLE job_pieces (
    track_id BIGINT NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    job TEXT NOT NULL,
    job_ms BIGINT NOT NULL,
    start_ms BIGINT NOT NULL,
    PRIMARY KEY (track_id, number)
);
