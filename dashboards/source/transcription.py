"""Audio to text to the database, and surveys."""

from parts import dashboard, events, heat, lines, number, percentile, percentiles, rate, server, total

SPOKEN = total(rate(server("transcribe_audio_seconds_total")))
CALLS = rate(server("survey_tool_calls_total"))
FAILED = rate(server("survey_tool_calls_total", 'result=~"storage_unavailable|rate_limited|unknown_.*|request_id_reused"'))

CONTENT = [
    ("Is it well?", [
        number("Sessions", "Transcription sessions that go on.", "short", ("sessions", total(server("transcribe_sessions_active")))),
        number("Connections", "Connections of /transcribe: speakers, hosts and listeners.", "short",
               ("connections", total(server("transcribe_active_connections")))),
        number("Provider left alone", "Servers whose provider failed so often that they only try it from time to time. Audio is kept "
               "for --transcribe-buffer, then it is lost.", "none", ("servers", total(server("transcribe_breaker_open"))),
               steps=[(None, "green"), (1, "red")]),
        number("Waiting to be stored", "Records that wait for the database. At --transcribe-queue-size, by default 1,000, they go to "
               "a file.", "short", ("records", total(server("transcribe_queue_length"))),
               steps=[(None, "green"), (500, "orange"), (1000, "red")]),
        number("In the spill file", "Bytes that are stored in the state directory, as the database does not take them.", "bytes",
               ("bytes", total(server("transcribe_spill_bytes"))), steps=[(None, "green"), (1, "orange")]),
        number("Lost", "Finals and gaps of the last hour that are stored nowhere.", "short",
               ("segments", f"sum(increase({server('transcribe_lost_segments_total')}[1h]))"),
               steps=[(None, "green"), (1, "red")]),
    ]),
    ("Audio", [
        lines("Audio", "Seconds of audio in a second, which is the number of people who speak. What is sent again after a provider was "
              "lost counts again.", "short", ("to the provider", SPOKEN),
              ("gaps", total(rate(server("transcribe_gap_seconds_total")))),
              ("host away", total(rate(server("transcribe_unheard_seconds_total"))))),
        lines("Tracks", "Speakers who are being transcribed, by provider, and speakers who wait because it is busy.", "short",
              ("{{provider}}", total(server("transcribe_active_bridges"), "provider")),
              ("waiting", total(server("transcribe_streams_waiting")))),
        lines("Frames", "Frames of audio taken in a second.", "ops",
              ("frames", total(rate(server("transcribe_audio_chunks_total"))))),
        events("Audio that was not transcribed", "Seconds of audio in a second, by reason. Each is told to the host as a `gap`.", "short",
               ("{{reason}}", total(rate(server("transcribe_audio_dropped_seconds_total")), "reason"))),
        events("Refused", "Requests and frames in a second that were refused, by code. Most are one client's fault; `storage_full`, "
               "`storage_unavailable`, `provider_down`, `budget` and `too_many_sessions` are not.", "ops",
               ("{{code}}", total(rate(server("transcribe_refused_total")), "code"))),
        events("At another server", "Requests and connections in a second for a session that another server has. `moved`: they were told where. "
               "`elsewhere`: it has no --public-url, and they try again.", "ops",
               ("{{result}}", total(rate(server("transcribe_moved_total")), "result"))),
    ]),
    ("Transcripts", [
        lines("Transcripts", "Partials and finals in a second.", "ops",
              ("finals", total(rate(server("transcribe_finals_total")))),
              ("partials", total(rate(server("transcribe_partials_total"))))),
        lines("From the end of an utterance to its final", "Includes the pause that the provider waits for, to know that it is the "
              "end.", "s", *percentiles("transcribe_final_latency_seconds", 50, 95, 99)),
        heat("How these are spread", "How many finals a second came after how long.", "transcribe_final_latency_seconds"),
        lines("Lag of the provider", "Audio received that the provider has not taken yet, of each speaker in each second. At 5 s a "
              "speaker is told `slow`; from --transcribe-buffer on audio is lost.", "s",
              *percentiles("transcribe_lag_seconds", 50, 95, 99), limit=5),
        lines("Time until the provider takes audio", "From sending it.", "s",
              *percentiles("transcribe_provider_latency_seconds", 50, 99)),
        events("Streams of the provider lost", "In a second, by reason. Each is opened again.", "ops",
               ("{{provider}}: {{reason}}", total(rate(server("transcribe_provider_reconnects_total")), "provider", "reason"))),
        lines("Provider left alone", "1 while a server does not use its provider, which fails.", "none",
              ("{{instance}} {{provider}}", server("transcribe_breaker_open")), limit=1),
        events("Errors of the provider", "In a second: opens that failed, streams lost, messages that mean nothing; and utterances that "
               "it has sent twice.", "ops", ("errors", total(rate(server("transcribe_provider_errors_total")))),
               ("twice", total(rate(server("transcribe_duplicate_segments_total"))))),
    ]),
    ("Storage", [
        lines("Records", "Handed over, written to the database, and written to the spill file, in a second.", "ops",
              ("handed over", total(rate(server("transcribe_queued_total")))),
              ("to the database", total(rate(server("transcribe_flushed_total")))),
              ("to the file", total(rate(server("transcribe_spilled_total"))))),
        lines("Waiting", "Records that wait for the database. At the limit, by default 1,000, they go to the file.", "short",
              ("{{instance}}", server("transcribe_queue_length")), limit=1000),
        lines("Spill file", "Bytes that wait for the database on disk. At --transcribe-spill, by default 1 GiB, records are lost.", "bytes",
              ("{{instance}}", server("transcribe_spill_bytes"))),
        lines("Time of a commit", "What the database takes for a batch.", "s", *percentiles("transcribe_commit_seconds", 50, 95, 99)),
        lines("Time until a record is stored", "From the final to the commit or to the file. Batches wait for "
              "--transcribe-flush-interval, 300 ms.", "s", *percentiles("transcribe_store_delay_seconds", 50, 95, 99)),
        lines("Records in a batch", "Half of the batches, and 95 % of them, had at most so many.", "short",
              ("50 %", percentile(50, "transcribe_batch_rows")), ("95 %", percentile(95, "transcribe_batch_rows"))),
        lines("Batches", "Commits in a second: all of them, and those that were due as 100 rows or 300 ms had gathered. For the rest somebody "
              "waited: an answer of a survey, a new session.", "ops",
              ("all", total(rate(server("transcribe_batch_rows_count")))),
              ("gathered", total(rate(server("transcribe_gathered_batches_total"))))),
        events("Batches that failed", "Batches in a second that the database did not take. They are tried again, or go to the file.", "ops",
               ("batches", total(rate(server("transcribe_flush_errors_total"))))),
        events("Records that are not in the database", "In a second. Refused ones are in rejected.jsonl, the others nowhere, by reason. `full`: "
               "neither database nor file has room. `rejected`: nor has rejected.jsonl. `deleted`: its session is gone.", "ops",
               ("refused", total(rate(server("transcribe_records_rejected_total")))),
               ("{{reason}}", total(rate(server("transcribe_records_dropped_total")), "reason")),
               ("finals and gaps", total(rate(server("transcribe_lost_segments_total"))))),
    ]),
    ("Surveys", [
        lines("Interviews", "Interviews used within the last ten minutes.", "short",
              ("interviews", total(server("survey_sessions_active")))),
        lines("Calls of tools", "In a second, by tool.", "ops", ("{{tool}}", total(CALLS, "tool")), stacked=True),
        lines("Time of a call", "95 % of the calls were answered within this time, the commit included. 300 ms are promised.", "s",
              ("{{tool}}", percentile(95, "survey_tool_seconds", "tool")), limit=0.3),
        events("Calls that were not answered with a result", "In a second, by tool and code. `invalid_answer` and `not_current` are part of "
               "an interview: it asks again.", "ops",
               ("{{tool}}: {{result}}", total(rate(server("survey_tool_calls_total", 'result!="ok"')), "tool", "result"))),
        lines("Calls that failed", "Share of the calls that failed, without `invalid_answer`, `not_current` and `survey_done`.", "percentunit",
              ("failed", f"{total(FAILED)} / {total(CALLS)}"), limit=0.01),
    ]),
]

JSON = dashboard(
    "Transcription",
    "Audio to text to the database, and surveys.",
    "now-1h",
    CONTENT,
)
