"""Several servers as one, over Redis or Valkey: the engine."""

from parts import MESSAGE_SECONDS, dashboard, events, heat, lines, number, percentile, percentiles, rate, select, server, total

# A server of an earlier version has no reach.
MATCHES = rate(server("matches_total", 'reach!=""'))
ALIVE, SUSPECTED, STRANGE = [server("cluster_nodes", f'state="{state}"') for state in ("alive", "suspect", "strange")]
FENCED = server("cluster_lives_total", 'reason="fenced"')


def engine(metric):
    """A metric of redis_exporter, which has a job of its own: all that Prometheus reads."""
    return select(metric)


CONTENT = [
    ("Is it well?", [
        number("Matching across servers", "Servers that can ask the engine, Redis or Valkey, for partners. The others match their own users "
               "with each other.", "none", ("servers", total(server("cluster_state", 'part="index"')))),
        number("Messages across servers", "Servers whose own probe comes back through the engine.", "none",
               ("servers", total(server("cluster_state", 'part="bus"')))),
        number("Without", "Servers that cannot use it, for matching or for messages.", "none",
               ("servers", f"count(min by (job, instance) ({server('cluster_state')}) == 0) or vector(0)"),
               steps=[(None, "green"), (1, "red")]),
        number("Suspected", "Servers of which another one has heard nothing for more than half a second: nobody is matched with their "
               "users until they are heard again.", "none", ("servers", f"max({SUSPECTED})"),
               steps=[(None, "green"), (1, "orange")]),
        number("Strange", "Registered under the same prefix, and no server of this program, or one that speaks another version of the "
               "bus.", "none",
               ("strange", f"max({STRANGE})"), steps=[(None, "green"), (1, "red")]),
        number("Lives ended", "How often within an hour a server that ran was declared dead, as it did not beat for 3 s: its rooms "
               "with users of other servers ended.", "none", ("lives", f"sum(increase({FENCED}[1h]))"),
               steps=[(None, "green"), (1, "orange")]),
    ]),
    ("Who is there", [
        lines("Usable", "1 if the server can use the engine for matching (index) and for messages (bus).", "none",
              ("{{instance}} {{part}}", server("cluster_state")), most=1),
        lines("Others that live", "How many other servers each one sees. All should see the same: all but themselves.", "none",
              ("{{instance}}", ALIVE)),
        lines("Others that are dead, or suspected", "Dead: lives that have ended since this server started, in order too, as in each "
              "deployment. The newest 1,024.", "none",
              ("{{instance}} {{state}}", server("cluster_nodes", 'state=~"dead|suspect|strange"'))),
        events("Connections given up", "Connections to the engine that a server gave up, in a second, by reason. `silent`: nothing came "
               "back for 2 s. `role`: it is a replica now. `refused`: user, password or rights. `life`: this server begins "
               "a new life.", "ops",
               ("{{instance}} {{reason}}", total(rate(server("cluster_reconnects_total")), "instance", "reason"))),
        events("New lives", "Lives begun in a second. `start`: the process; `fenced`: it had been declared dead.", "ops",
               ("{{instance}} {{reason}}", total(rate(server("cluster_lives_total")), "instance", "reason"))),
        lines("Waiting", "Users of each server who wait in the engine. They wait in the server, too, for the time in "
              "which it is away.", "short", ("{{instance}}", server("cluster_waiting")), stacked=True),
    ]),
    ("The engine, as the servers see it", [
        lines("Calls", "In a second. `seek` has up to 64 searches in one call; `publish` the messages of half a millisecond to all "
              "servers.", "ops", ("{{script}}", total(rate(server("cluster_calls_total")), "script")), stacked=True),
        lines("Time of a call", "99 % were answered within this time. After 500 ms a call is given up, and users are matched on their "
              "own server.", "s", ("{{script}}", percentile(99, "cluster_call_seconds", "script")), limit=0.5),
        heat("How these are spread", "How many calls a second were answered after how long.", "cluster_call_seconds"),
        events("Calls that failed", "In a second, by result. `silent`: no answer in time. `down`: there was no connection. `refused`: an "
               "error. `noscript`: it had lost the scripts; the call was repeated. `stale`: it came "
               "so late that its server had given it up.", "ops",
               ("{{script}} {{result}}", total(rate(server("cluster_calls_total", 'result!="ok"')), "script", "result"))),
        lines("CPU of the engine", "Share of the one core that it has for commands; only if redis_exporter is read too. Above 70 % "
              "think of fewer, larger servers, or of shards for the messages.", "percentunit",
              ("{{instance}}", f"{rate(engine('redis_cpu_sys_main_thread_seconds_total'))} + "
               f"{rate(engine('redis_cpu_user_main_thread_seconds_total'))}"), limit=0.7, most=1),
        lines("Memory of the engine", "Only if redis_exporter is read too. 0.5 kB for each user who waits, and buffers of "
              "subscribers.", "bytes",
              ("{{instance}}", engine("redis_memory_used_bytes"))),
    ]),
    ("Matching", [
        lines("Matches by reach", "In a second. `local`: both users on one server; `remote`: on two; `fallback`: on one, while the "
              "engine could not be asked.", "ops", ("{{reach}}", total(MATCHES, "reach")), stacked=True),
        lines("Share by reach", "With n equal servers and few users at a time (n - 1) / n are remote.", "percentunit",
              ("{{reach}}", f"{total(MATCHES, 'reach')} / scalar({total(MATCHES)})"), most=1),
        lines("Proposals", "Proposals in a second to match a user with one of another server, by result. `accepted` to `late`: counted "
              "where they were answered; `timeout` and `revoked`: where they were made. `busy` and `gone` are normal: two were "
              "quicker.", "ops", ("{{result}}", total(rate(server("match_claims_total")), "result"))),
        events("Proposals without an answer", "In a second, by server that waited for it. That user asks again.", "ops",
               ("{{instance}}", total(rate(server("match_claims_total", 'result="timeout"')), "instance"))),
        events("Sessions that came along", "In a second: users who came to another server than their session began on, by what became of it. "
               "`taken`: it is there. `timeout`: its server did not answer. `refused`: it had ended, or cannot go. `forged`: a wrong token.", "ops",
               ("{{result}}", total(rate(server("session_takes_total")), "result"))),
        events("Put back", "Waiting users who were posted again in a second, by reason. `missing`: the engine had forgotten them. "
               "`unknown`: a reply was lost. `engine`: it came back. `nodes`: a server is trusted again, or data were lost.", "ops",
               ("{{reason}}", total(rate(server("match_put_back_total")), "reason"))),
    ]),
    ("Messages between servers", [
        lines("Time of a message", "From one server's taking a message, or a proposal, to its delivery at another one, by the engine's clock: "
              "the oldest of each batch. It waits for up to --cluster-flush before it goes.", "s",
              *percentiles("bus_message_seconds", 50, 95, 99), limit=MESSAGE_SECONDS),
        lines("Time through the engine", "A probe of each server to itself, four times a second: there and back.", "s",
              *percentiles("bus_seconds", 50, 95, 99), limit=MESSAGE_SECONDS),
        lines("Batches", "Calls that publish, in a second; each carries what all links of a server had to say.", "ops",
              ("{{instance}}", total(rate(server("cluster_calls_total", 'script="publish"')), "instance"))),
        events("Gaps", "In a second: batches that did not come at once. `repaired`: they were sent again. `lost`: messages of "
               "users are missing.", "ops",
               ("{{instance}} {{result}}", total(rate(server("bus_gaps_total")), "instance", "result"))),
        events("Dropped", "In a second, by reason. `full`: more than a link holds; the sender was told (`relay_lost`). `packets`: too much was asked for "
               "once more. `inbox`, `changes`: more than this server handles. `ended`, `life`, `dead`: to or from a life that has "
               "ended. `twice`: it had come before. `version`, `garbage`: another program's.", "ops",
               ("{{instance}} {{reason}}", total(rate(server("bus_dropped_total")), "instance", "reason"))),
        events("Rooms of one name", "In a second: named rooms that began on two servers at once, as the engine was away, and became one: the "
               "members of one of the two moved.", "ops", ("{{instance}}", total(rate(server("room_conflicts_total")), "instance"))),
        events("Unknown frames", "In a second: packets, and frames within them, of a later version, which this one skips.", "ops",
               ("{{instance}} packets", total(rate(server("bus_unknown_frames_total")), "instance")),
               ("{{instance}} frames", total(rate(server("messages_dropped_total", 'reason="unknown_frame"')), "instance"))),
        lines("Requests passed on", "In a second: `/send` and `/poll` for sessions of other servers, by result. `unanswered`: not in time; `unreachable`: the link is "
              "full, or the engine away; `lost`: the server is dead; `full`: too many at once. Counted where the session is: `late`, which nobody "
              "waits for any more, and `busy`.", "ops",
              ("{{kind}} {{result}}", total(rate(server("session_forwards_total")), "kind", "result"))),
    ]),
]

JSON = dashboard(
    "Cluster",
    "Several servers as one over an engine, Redis or Valkey: who is there, matches and messages from one to another.",
    "now-1h",
    CONTENT,
)
