"""From the wish to be matched to the last message: matching, rooms, messages, sessions."""

from parts import MATCH_SECONDS, MESSAGE_SECONDS
from parts import dashboard, events, heat, lines, percentile, percentiles, rate, server, total

ASKED = rate(server("requests_total", 'type=~"find_match|next"'))

CONTENT = [
    ("Matching", [
        lines("Who waits", "Users who wait for a match, by the widest kind of pool that they stand in. Who does not answer is "
              "put aside, and matched with nobody.", "short",
              ("{{pool}}", total(server("matchmaking_waiting_users"), "pool")),
              ("put aside", total(server("matchmaking_parked_users")))),
        lines("Asked and matched", "Users in a second who asked for a match, and users who got one. The gap is those who gave "
              "up, or wait.", "ops", ("asked", total(ASKED)), ("matched", f"2 * {total(rate(server('matches_total')))}")),
        lines("Matches", "Matches in a second, by the kind of pool in which the two met: the more of them in `anyone`, the less "
              "their criteria helped.", "ops", ("{{pool}}", total(rate(server("matches_total")), "pool")), stacked=True),
        lines("Wait for a match", "At most this long had so many of the matched users waited. Users with narrow criteria wait "
              "until these widen: 5, 10 and 15 s.", "s",
              *percentiles("matchmaking_duration_seconds", 50, 95, 99), limit=MATCH_SECONDS),
        lines("Wait by pool", "At most this long had 95 % of the users waited who were matched in each kind of pool: what their "
              "criteria cost them.", "s", ("{{pool}}", percentile(95, "match_wait_seconds", "pool")), limit=MATCH_SECONDS),
        heat("How the waits are spread", "How many users a second were matched after how long. Two bands: some find a partner "
             "there, the others wait for one.", "matchmaking_duration_seconds"),
        lines("Matches undone", "Matches in a second of which one user had gone when told. The other one kept its place.", "ops",
              ("undone", total(rate(server("matches_retried_total"))))),
    ]),
    ("Rooms and messages", [
        lines("Rooms", "Rooms of two, named rooms, and users in named rooms.", "short",
              ("rooms of two", total(server("rooms_active"))),
              ("named rooms", total(server("named_rooms_active"))),
              ("users in named rooms", total(server("named_room_members")))),
        lines("Messages", "Messages relayed in a second, by type. A message to a named room counts once for each receiver.", "ops",
              ("{{type}}", total(rate(server("messages_relayed_total")), "type")), stacked=True),
        lines("Time of a message in the server", "From a message read to the message written to its receiver's socket, also at another server. Of "
              "receivers who had no connection see below.", "s",
              *percentiles("relay_duration_seconds", 50, 95, 99, 99.9), limit=MESSAGE_SECONDS),
        events("Messages not relayed", "Messages in a second that did not reach the receiver. `peer_left` and `peer_closed`: the "
               "partner had gone. `rate_limited`: the sender sent too many. `outbox_full`: the receiver did not read.", "ops",
               ("{{reason}}", total(rate(server("messages_dropped_total")), "reason"))),
        events("Blocks and reports", "Partners whom users have blocked, and reports about them by reason, in a second.", "ops",
               ("blocked", total(rate(server("blocks_total")))),
               ("reported: {{reason}}", total(rate(server("reports_total")), "reason"))),
        lines("Blocks that count", "Blocks that are remembered, at the server with the most: servers of a cluster know those of all "
              "users whom the app names. At --max-blocks, by default 100,000, the oldest are forgotten.", "short",
              ("blocks", f'max({server("blocks_remembered")})'), limit=100_000),
        events("Requests", "Requests to the server itself in a second, by type.", "ops",
               ("{{type}}", total(rate(server("requests_total")), "type"))),
        events("Requests refused", "Requests in a second that were answered with an error, by code.", "ops",
               ("{{code}}", total(rate(server("errors_total")), "code"))),
    ]),
    ("Sessions", [
        lines("What carries sessions", "Sessions by transport. Without a connection: they may come back.", "short",
              ("{{transport}}", total(server("sessions_active"), "transport")),
              ("without a connection", total(server("sessions_detached"))), stacked=True),
        lines("Sessions begun and ended", "In a second.", "ops", ("begun", total(rate(server("sessions_total")))),
              ("ended", total(rate(server("sessions_closed_total"))))),
        events("Why sessions ended", "In a second, by reason.", "ops",
               ("{{reason}}", total(rate(server("sessions_closed_total")), "reason"))),
        events("Connections lost", "Connections of resumable sessions that were lost in a second, by what told so.", "ops",
               ("{{by}}", total(rate(server("losses_detected_total")), "by"))),
        events("Sessions carried on", "Attempts in a second, by result. `limited`: too many forged tokens came from one address.",
               "ops", ("{{result}}", total(rate(server("ws_reconnect_attempts_total")), "result"))),
        events("From which transport to which", "Sessions carried on in a second.", "ops",
               ("{{from}} to {{to}}", total(rate(server("resumes_total", 'result="resumed"')), "from", "to"))),
        lines("Time without a connection", "How long sessions that were carried on had no connection. Clients should need 3 s at "
              "most, by any transport.", "s", *percentiles("resume_seconds", 50, 95, 99), limit=3),
        lines("Messages sent again", "In a second: messages sent again, or late, to a session that came back; and messages of "
              "clients that had arrived before.", "ops",
              ("again or late", total(rate(server("replayed_messages_total")))),
              ("arrived before", total(rate(server("duplicates_dropped_total"))))),
        lines("Passed on to the server before", "Requests in a second that carry on sessions of a server whose place this one has taken.",
              "ops", ("requests", total(rate(server("requests_forwarded_total"))))),
        lines("How late these were", "From a message read to the message written, for those that waited until their receiver came "
              "back.", "s", *percentiles("replay_delay_seconds", 50, 95, 99)),
    ]),
]

JSON = dashboard(
    "Matchmaking",
    "From the wish to be matched to the last message: matching, rooms, messages, sessions.",
    "now-1h",
    CONTENT,
)
