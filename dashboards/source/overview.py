"""Is it well? For whoever is called, and for a screen on the wall."""

from parts import MATCH_SECONDS, MEMORY_BYTES, MESSAGE_SECONDS
from parts import dashboard, events, fill, lines, more, number, percentile, rate, rows, select, server, service, share, total

# "2" or "2.0": Prometheus 3 writes it so.
MATCHED_IN_TIME = rate(server("matchmaking_duration_seconds_bucket", 'le=~"2(\\\\.0)?"'))
MATCHED = rate(server("matchmaking_duration_seconds_count"))
RELAYED_IN_TIME = rate(server("relay_duration_seconds_bucket", 'le="0.1"'))
RELAYED = rate(server("relay_duration_seconds_count"))
LOST = rate(server("messages_dropped_total", 'reason=~"outbox_full|memory_limit"'))
GOOD_MATCHES = f"sum({MATCHED_IN_TIME}) / sum({MATCHED})"
GOOD_MESSAGES = f"sum({RELAYED_IN_TIME}) / (sum({RELAYED}) + sum({LOST}))"

FIRING = select("ALERTS", 'alertstate="firing"', 'alertname=~"Voicematch.*"')
BUDGET_STEPS = [(None, "red"), (0, "orange"), (0.25, "green")]


def budget_left(good, objective):
    budget = select("voicematch:error_budget:ratio", f'objective="{objective}"')
    return f"1 - (1 - {good}) / scalar({budget})".replace("$__rate_interval", "$__range")


def burn(objective, window):
    burning = service(f"job:voicematch_burn:rate{window}", f'objective="{objective}"')
    return f"{objective}, {window}", total(burning, "objective")


CONTENT = [
    ("Is it well?", [
        number("Servers down", "Servers that Prometheus knows and cannot read.", "none",
               ("down", f"count({server('up')} == 0) or vector(0)"), steps=[(None, "green"), (1, "red")]),
        number("Alerts", "Alerts that fire now; the list is below.", "none",
               ("firing", f"count({FIRING}) or vector(0)"), steps=[(None, "green"), (1, "red")]),
        number("Uptime", "Share of the time shown in which the servers could be read. The objective is 99.9 %.",
               "percentunit", ("up", f"avg(avg_over_time({server('up')}[$__range]))"),
               steps=[(None, "red"), (0.999, "green")], now=True),
        more(number("Users", "Sessions that are there, whatever carries them.", "short",
                    ("users", total(server("websocket_active_connections")))), "Matchmaking"),
        more(number("Matches", "Matches made in a second; each is of two users.", "ops",
                    ("matches", total(rate(server("matches_total"))))), "Matchmaking"),
        more(number("Messages", "Messages relayed in a second.", "ops",
                    ("messages", total(rate(server("messages_relayed_total"))))), "Matchmaking"),
    ]),
    ("Objectives", [
        number("Match: error budget left",
               "Of the 5 % of users who may wait for a match longer than 2 s, what is left over the time shown. Below 0: the "
               "objective was missed.", "percentunit", ("left", budget_left(GOOD_MATCHES, "match")),
               steps=BUDGET_STEPS, now=True, height=8),
        number("Delivery: error budget left",
               "Of the 0.1 % of messages that may take longer than 100 ms in the server or be dropped by it, what is left "
               "over the time shown. Below 0: the objective was missed.", "percentunit",
               ("left", budget_left(GOOD_MESSAGES, "delivery")), steps=BUDGET_STEPS, now=True, height=8),
        lines("How fast the budget is spent",
              "1: the budget lasts for exactly the 30 days it is for. Above 14.4 over one hour somebody is called. Of all "
              "servers of the service together.", "none",
              burn("match", "5m"), burn("match", "1h"), burn("delivery", "5m"), burn("delivery", "1h"), limit=14.4),
        lines("What went well", "Share of users matched within 2 s, and of messages written to their receiver within 100 ms.",
              "percentunit", ("matches within 2 s", GOOD_MATCHES), ("messages within 100 ms", GOOD_MESSAGES),
              least=0.95, most=1),
    ]),
    ("What users feel", [
        more(lines("Users", "Sessions by what they do.", "short",
                   ("{{state}}", total(server("sessions"), "state")), stacked=True), "Matchmaking"),
        more(lines("Wait for a match", "95 % of the users who were matched had waited at most this long. Few users wait longer for "
                   "each other: that is not the server's fault.", "s",
                   ("95 %", percentile(95, "matchmaking_duration_seconds")), limit=MATCH_SECONDS), "Matchmaking"),
        more(lines("Time of a message in the server", "99 % of the messages were written to their receiver's socket this long after "
                   "they had been read.", "s",
                   ("99 %", percentile(99, "relay_duration_seconds")), limit=MESSAGE_SECONDS), "Matchmaking"),
    ]),
    ("What goes wrong", [
        events("Connections refused", "Connections turned away in a second, by reason.", "ops",
               ("{{reason}}", total(rate(server("connections_refused_total")), "reason"))),
        events("Limits reached", "How often in a second each limit was reached. Some are limits of one user, and their fault.",
               "ops", ("{{limit}}", total(rate(server("limit_hits_total")), "limit"))),
        events("Sessions that broke", "Sessions that ended in a second, neither by the user's will nor by a drain.", "ops",
               ("{{reason}}", total(rate(server("sessions_closed_total", 'reason!~"closed|replaced|draining"')), "reason"))),
    ]),
    ("How full it is", [
        more(fill("Limits", "How much of each limit the fullest server uses. Memory: of the 2 GB that are the objective for 5,000 "
                  "users.",
                  ("file descriptors", f"max({server('process_open_fds')} / {server('process_max_fds')})"),
                  ("connections", f"max({share('connections_open', 'max_connections')})"),
                  ("sessions without a connection", f"max({share('sessions_detached', 'max_detached')})"),
                  ("named rooms", f"max({share('named_rooms_active', 'max_rooms')})"),
                  ("what users make it keep", f"max({share('buffered_bytes', 'max_buffered_bytes')})"),
                  ("memory", f"max({server('process_resident_memory_bytes')}) / {MEMORY_BYTES:g}"),
                  ("CPU of the workers", f"max({rate(server('process_cpu_seconds_total'))} / {server('runtime_workers')})")),
             "Node", "Endurance"),
        rows("Alerts that fire", "Each has a section in dashboards/runbooks.md.",
             f"max by (alertname, severity, job, instance) ({FIRING})", ["severity", "alertname", "job", "instance"], width=16),
    ]),
]

JSON = dashboard(
    "Overview",
    "Is it well? Objectives, what users feel, what goes wrong.",
    "now-6h",
    CONTENT,
)
