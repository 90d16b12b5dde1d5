"""What loadtest does and sees, beside what the server says of the same time."""

from parts import MATCH_SECONDS, MESSAGE_SECONDS
from parts import choice, dashboard, events, generator, lines, number, percentile, rate, server, total

JOINED = rate(server("requests_total", 'type="join_room"'))


def own(selector):
    """Of processes, those that are load tests: the names of these metrics are not theirs alone."""
    return f"{selector} and on (job, instance) loadtest_users_planned"


def worst(metric, percent):
    """Several generators cannot be added up here; `loadtest merge` does that."""
    label = f'percentile="{percent}"'
    return f"max({generator(metric, label)})"


CONTENT = [
    ("The run", [
        number("Users", "Users connected now, as loadtest sees it.", "short",
               ("connected", total(generator("loadtest_users_connected")))),
        number("Planned", "The most users of the plan.", "short", ("planned", total(generator("loadtest_users_planned")))),
        number("Done", "How much of the plan's time is over.", "percentunit",
               ("done", f"max({generator('loadtest_elapsed_seconds')} / {generator('loadtest_planned_seconds')})")),
        number("Errors", "Errors of all kinds since the start of the run.", "none",
               ("errors", total(generator("loadtest_errors_total"))), steps=[(None, "green"), (1, "red")]),
        number("Not delivered yet", "Messages sent and not received, since the start of the run; some are under way.", "none",
               ("messages", f"{total(generator('loadtest_messages_sent_total'))} - "
                f"{total(generator('loadtest_messages_delivered_total'))}")),
        number("Own lateness", "What 99 % of loadtest's own actions were late in the last second. If this is not small beside the "
               "latencies, they cannot be trusted.", "s", ("99 %", worst("loadtest_own_lateness_seconds", 99)),
               steps=[(None, "green"), (0.01, "orange"), (0.1, "red")]),
    ]),
    ("Both sides count the same", [
        lines("Users", "Users connected, on both sides.", "short",
              ("loadtest", total(generator("loadtest_users_connected"))),
              ("server", total(server("websocket_active_connections"))),
              ("planned", total(generator("loadtest_users_planned"))), dashed="planned"),
        lines("Users in rooms", "On both sides.", "short",
              ("loadtest", total(generator("loadtest_users_in_rooms"))),
              ("server", total(server("sessions", 'state="in_room"')))),
        lines("Users who came into a room", "In a second, on both sides: by a match, or into a named room.", "ops",
              ("loadtest", total(rate(generator("loadtest_matches_total")))),
              ("server", f"2 * {total(rate(server('matches_total')))} + {total(JOINED)}")),
        lines("Messages", "In a second: sent and received by loadtest, relayed by the server.", "ops",
              ("sent", total(rate(generator("loadtest_messages_sent_total")))),
              ("received", total(rate(generator("loadtest_messages_delivered_total")))),
              ("relayed", total(rate(server("messages_relayed_total"))))),
        lines("Errors", "In a second: what loadtest counts as an error, and requests that the server refused.", "ops",
              ("loadtest", total(rate(generator("loadtest_errors_total")))),
              ("server", total(rate(server("errors_total"))))),
        events("Sessions ended by the server", "In a second, by reason. A run that goes well has none.", "ops",
               ("{{reason}}", total(rate(server("sessions_closed_total", 'reason!~"closed|lost|replaced"')), "reason"))),
    ]),
    ("Latencies", [
        lines("Match", "95 % of the matches in the last second took loadtest this long; and what the server says of the wait. The "
              "difference is the network and the machine of loadtest.", "s",
              ("loadtest", worst("loadtest_match_latency_seconds", 95)),
              ("server", percentile(95, "matchmaking_duration_seconds")), limit=MATCH_SECONDS),
        lines("Message", "99 % of the messages, from the moment that they were due until they were received; and their time in the "
              "server.", "s",
              ("loadtest", worst("loadtest_message_latency_seconds", 99)),
              ("server", percentile(99, "relay_duration_seconds")), limit=MESSAGE_SECONDS),
        lines("Lateness of loadtest", "How late loadtest itself was in the last second.", "s",
              ("{{percentile}} %", f"max by (percentile) ({generator('loadtest_own_lateness_seconds')})")),
    ]),
    ("What it costs", [
        lines("CPU", "Cores in use. A generator with all of its cores in use measures itself.", "none",
              ("loadtest {{instance}}", own(rate(generator("process_cpu_seconds_total")))),
              ("server {{instance}}", rate(server("process_cpu_seconds_total"))), width=12),
        lines("Memory", "Resident memory.", "decbytes",
              ("loadtest {{instance}}", own(generator("process_resident_memory_bytes"))),
              ("server {{instance}}", server("process_resident_memory_bytes")), width=12),
    ]),
]

JSON = dashboard(
    "Load test",
    "What loadtest does and sees, beside what the server says of the same time. Start it with --metrics-addr.",
    "now-30m",
    CONTENT,
    [choice("generator", "Load test", "label_values(loadtest_users_planned, instance)")],
)
