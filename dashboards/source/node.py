"""One server and its process: CPU, memory, connections, limits."""

from parts import MEMORY_BYTES
from parts import dashboard, events, fill, lines, number, percentiles, rate, server, share, total

CONTENT = [
    ("Process", [
        number("Started", "When the process started.", "dateTimeFromNow",
               ("{{instance}}", f"{server('process_start_time_seconds')} * 1000"), now=True),
        number("Version", "Which version of the server.", "none",
               ("{{version}}", server("voicematch_build_info")), now=True, text="name"),
        number("Drains", "1: the server was asked to stop, and ends its rooms.", "none", ("{{instance}}", server("draining")),
               steps=[(None, "green"), (1, "orange")], now=True),
        number("Threads", "All threads of the process.", "none", ("{{instance}}", server("process_threads")), now=True),
        number("Key of room tickets", "Where it comes from. `memory`: rooms do not survive a restart of the server.", "none",
               ("{{source}}", total(server("room_key"), "source")), now=True, text="name"),
        number("Log lines lost", "Log lines not written in the last hour: the reader was too slow, or the write failed.", "none",
               ("{{instance}}", f"increase({server('log_lines_dropped_total')}[1h])"),
               steps=[(None, "green"), (1, "orange")]),
    ]),
    ("CPU", [
        lines("CPU", "Cores that the process uses, and how many it has workers for.", "none",
              ("{{instance}}", rate(server("process_cpu_seconds_total"))),
              ("{{instance}} workers", server("runtime_workers"))),
        lines("Busy workers", "Share of its time that each worker runs tasks. Near 100 % users wait.", "percentunit",
              ("{{instance}} worker {{worker}}", rate(server("runtime_worker_busy_seconds_total"))), limit=0.9, most=1),
        lines("Tasks", "Tasks alive on each worker: one for each connection, but for WebSockets without TLS, which need none.", "none",
              ("{{instance}} worker {{worker}}", server("runtime_tasks_alive"))),
    ]),
    ("Memory", [
        lines("Resident memory", "What the system counts for the process.", "decbytes",
              ("{{instance}}", server("process_resident_memory_bytes")), limit=MEMORY_BYTES),
        lines("What the allocator holds", "By kind, see jemalloc's `stats.*`: allocated is in use by the program, retained is not "
              "resident.", "decbytes", ("{{instance}} {{kind}}", server("allocator_bytes"))),
        lines("What users make it keep", "Unfinished messages, outboxes and handshakes (limit: --max-buffered-bytes); of these, "
              "messages kept for sessions that may come back.", "decbytes",
              ("{{instance}} all", server("buffered_bytes")), ("{{instance}} for sessions", server("resume_log_bytes"))),
        lines("Fullest outbox: messages", "The most messages that waited for one user since the start. At the limit that user is "
              "closed.", "none", ("{{instance}}", server("outbox_high_water_messages")),
              ("{{instance}} limit", server("limits", 'limit="outbox_messages"'))),
        lines("Fullest outbox: bytes", "The same in bytes.", "bytes", ("{{instance}}", server("outbox_high_water_bytes")),
              ("{{instance}} limit", server("limits", 'limit="outbox_bytes"'))),
        lines("Descriptors", "Open files, and how many may be open. Each connection takes one.", "none",
              ("{{instance}}", server("process_open_fds")), ("{{instance}} limit", server("process_max_fds"))),
    ]),
    ("Who may come in", [
        events("Users the app was asked about", "In a second, by its answer (--auth-webhook). `remembered`: its last answer was used "
               "again. `busy`, `failed`: nobody came in.", "ops",
               ("{{instance}} {{result}}", rate(server("auth_webhook_total")))),
        lines("Time the app takes to answer", "Users wait so long before they come in (--auth-webhook).", "s",
              *percentiles("auth_webhook_seconds", 50, 99)),
        events("Keys of tokens fetched", "In a second, by result (--jwks with a URL). `failed`: the old ones are still used.", "ops",
               ("{{instance}} {{result}}", rate(server("token_key_fetches_total")))),
    ]),
    ("Traces and error reports", [
        lines("Spans of traced sessions", "In a second, by result (--otlp-endpoint). All but `sent` were dropped: `queue_full`: more "
              "came than can be sent; `failed`: no answer; `refused`: the collector's answer.", "ops",
              ("{{instance}} {{result}}", rate(server("trace_spans_total"))), width=12),
        lines("Errors reported", "In an hour, by result (--sentry-dsn-file). All but `sent` were not: `repeated`: the same error, "
              "within a minute; `hourly_limit`: more than 60; `rate_limited`: the service wants quiet.", "none",
              ("{{instance}} {{result}}", f"increase({server('error_reports_total')}[1h])"), width=12),
    ]),
    ("What the app is told", [
        events("Events", "Events that the app has taken in a second (--event-webhook), and those that it has not got, by reason: "
               "`queue_full`: it takes them too slowly; `gave_up`: five tries failed; `refused`: it does not want them.", "ops",
               ("{{instance}} taken", rate(server("events_sent_total"))),
               ("{{instance}} dropped: {{reason}}", rate(server("events_dropped_total")))),
        lines("Events that wait", "Events on their way to the app. At 10,000 more are dropped.", "none",
              ("{{instance}}", server("events_queued")), limit=10_000),
        events("Requests with events", "In a second, by result. `failed`: the same events are sent again.", "ops",
               ("{{instance}} {{result}}", rate(server("event_webhook_requests_total")))),
        lines("Time since the app took events", "It grows while nothing happens, too: see whether events wait.", "s",
              ("{{instance}}", f"time() - ({server('event_webhook_last_success_timestamp_seconds')} > 0)")),
    ]),
    ("Connections and limits", [
        lines("Connections", "TCP connections on the public port; sessions; polls that wait for messages.", "none",
              ("{{instance}} connections", server("connections_open")),
              ("{{instance}} sessions", server("websocket_active_connections")),
              ("{{instance}} polls", server("polls_held"))),
        lines("New connections", "TCP connections accepted in a second.", "ops",
              ("{{instance}}", rate(server("connections_total")))),
        lines("HTTP requests", "Requests on the public port in a second, by class of the answer's status. 1xx: a WebSocket.", "reqps",
              ("{{instance}} {{class}}", rate(server("http_requests_total")))),
        events("Connections refused", "In a second, by reason.", "ops",
               ("{{instance}} {{reason}}", rate(server("connections_refused_total")))),
        events("Limits reached", "How often in a second, by limit.", "ops",
               ("{{instance}} {{limit}}", rate(server("limit_hits_total")))),
        fill("How full the limits are", "How much of each limit that is in force is used now.", *[
            ("{{instance}} {{limit}}", share(metric, limit)) for metric, limit in [
                ("connections_open", "max_connections"), ("sessions_detached", "max_detached"),
                ("named_rooms_active", "max_rooms"), ("buffered_bytes", "max_buffered_bytes"),
            ]
        ]),
        lines("Network", "Bytes of WebSocket connections in a second, and of relayed messages.", "Bps",
              ("{{instance}} received", rate(server("network_receive_bytes_total"))),
              ("{{instance}} sent", rate(server("network_transmit_bytes_total"))),
              ("{{instance}} relayed", rate(server("relayed_bytes_total")))),
    ]),
]

JSON = dashboard("Node", "One server and its process: CPU, memory, connections, limits.", "now-1h", CONTENT)
