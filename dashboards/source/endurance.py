"""What grows in a long run, how fast, and when it would meet its limit."""

from grafana_foundation_sdk.builders.dashboard import CustomVariable
from grafana_foundation_sdk.models.dashboard import VariableOption

from parts import MATCH_SECONDS, MEMORY_BYTES, MESSAGE_SECONDS
from parts import dashboard, lines, number, rate, select, server, total

HOUR, DAY, YEAR = 3600, 86400, 365 * 86400

MEMORY = server("process_resident_memory_bytes")
DESCRIPTORS = server("process_open_fds")
TASKS = total(server("runtime_tasks_alive"), "job", "instance")
# Recorded, because a percentile has no course that could be measured in one query.
MESSAGES = server("instance:relay_duration_seconds:p99_rate5m")
MATCHES = server("instance:matchmaking_duration_seconds:p95_rate5m")
USERS = server("websocket_active_connections")

# A line through the first minutes of a run says nothing about its hours.
LONG_ENOUGH = f"and on (job, instance) {server('runtime_workers')} offset $drift"


def course(expression):
    """A plain metric has a course; that of a sum has to be computed first."""
    return f"{expression}[$drift]" if expression.endswith("}") else f"({expression})[$drift:]"


def per_hour(expression):
    return f"deriv({course(expression)}) * {HOUR} {LONG_ENOUGH}"


def a_day_later(expression):
    return f"predict_linear({course(expression)}, {DAY}) {LONG_ENOUGH}"


def until(limit, expression):
    """Seconds; what does not grow takes a year."""
    growth = f"clamp_min(deriv({course(expression)}), 1e-9)"
    return f"clamp_max(clamp_min({limit} - {expression}, 0) / {growth}, {YEAR}) {LONG_ENOUGH}"


def drift(title, what, unit, expression):
    return number(title, f"{what} Measured over the time of the variable Drift, and not shown before.", unit,
                  ("{{instance}}", per_hour(expression)), steps=[(None, "text")])


def forecast(title, what, unit, expression, *others, limit=None):
    description = f"{what} Dashed: where the value would be a day later, if it went on as it did over the time of Drift."
    return lines(title, description, unit, ("{{instance}}", expression),
                 ("{{instance}} a day later", a_day_later(expression)), *others, limit=limit, dashed="a day later")


CONTENT = [
    ("Drift per hour", [
        drift("Memory", "Resident memory.", "decbytes", MEMORY),
        drift("Descriptors", "Open files.", "none", DESCRIPTORS),
        drift("Tasks", "Tasks alive: one for each connection, but for WebSockets without TLS, which need none.", "none", TASKS),
        drift("Message p99", "What 99 % of the messages took in the server.", "s", MESSAGES),
        drift("Match p95", "What 95 % of the matched users had waited.", "s", MATCHES),
        drift("Users", "If users come and go, the other figures follow them and tell nothing.", "none", USERS),
    ]),
    ("Time until the limit", [
        number("Memory reaches 2 GB", "If it goes on to grow as it did over the time of Drift; at most a year.", "s",
               ("{{instance}}", until(f"{MEMORY_BYTES:g}", MEMORY)),
               steps=[(None, "red"), (DAY, "orange"), (7 * DAY, "green")], width=12),
        number("Descriptors run out", "If they go on to grow as they did over the time of Drift; at most a year.", "s",
               ("{{instance}}", until(server("process_max_fds"), DESCRIPTORS)),
               steps=[(None, "red"), (DAY / 6, "orange"), (DAY, "green")], width=12),
    ]),
    ("Over time", [
        forecast("Memory", "Resident memory.", "decbytes", MEMORY, limit=MEMORY_BYTES),
        forecast("Descriptors", "Open files, and how many may be open.", "none", DESCRIPTORS,
                 ("{{instance}} limit", server("process_max_fds"))),
        forecast("Tasks", "Tasks alive, and connections. Tasks that grow while connections do not are never ended.", "none",
                 TASKS, ("{{instance}} connections", server("connections_open"))),
        forecast("Message p99", "What 99 % of the messages of five minutes took in the server.", "s", MESSAGES,
                 limit=MESSAGE_SECONDS),
        forecast("Match p95", "What 95 % of the users who were matched in five minutes had waited.", "s", MATCHES,
                 limit=MATCH_SECONDS),
        lines("Users", "Sessions that are there.", "short", ("{{instance}}", USERS)),
    ]),
    ("What explains it", [
        lines("Where the memory is", "Allocated: in use by the program. Resident: what the allocator has of the system. If only the "
              "second grows, memory is scattered and not leaked.", "decbytes",
              ("{{instance}} allocated", server("allocator_bytes", 'kind="allocated"')),
              ("{{instance}} resident", server("allocator_bytes", 'kind="resident"'))),
        lines("Memory of a user", "Resident memory divided by the users who are there.", "decbytes",
              ("{{instance}}", f"{MEMORY} / clamp_min({USERS}, 1)")),
        lines("CPU of a message", "CPU time of the whole server divided by the messages it relayed. It falls as the load rises.", "s",
              ("{{instance}}", f"{total(rate(server('process_cpu_seconds_total')), 'job', 'instance')} / "
               f"{total(rate(server('messages_relayed_total')), 'job', 'instance')}")),
    ]),
]

JSON = dashboard(
    "Endurance",
    "What grows in a long run, how fast, and when it would meet its limit. A run of loadtest is shown as a region, a "
    "start of a server as a line.",
    "now-24h",
    CONTENT,
    [CustomVariable("drift").label("Drift").values("15m,1h,6h,1d").current(VariableOption(text="6h", value="6h"))],
)
