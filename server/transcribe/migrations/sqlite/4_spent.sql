-- How much audio each process has sent to its provider, by day (days since 1970, UTC): a bound of the costs is one over restarts, too.
CREATE TABLE spent (
    day BIGINT NOT NULL,
    process BIGINT NOT NULL,
    audio_ms BIGINT NOT NULL,
    PRIMARY KEY (day, process)
);
