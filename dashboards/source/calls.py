"""Whether users hear each other, as their clients report it."""

from parts import dashboard, events, heat, lines, number, percentile, percentiles, rate, server, total

REPORTED = rate(server("calls_total"))
CONNECTED = rate(server("calls_total", 'outcome="connected"'))
RELAYED = rate(server("calls_total", 'outcome="connected"', 'path="relayed"'))
# Who leaves early says nothing about the network.
TRIED = rate(server("calls_total", 'outcome=~"connected|failed"'))

# A wait that users notice, and one after which they leave.
SOON = ((None, "green"), (1, "orange"), (3, "red"))


def share(part, whole):
    return f"{total(part)} / {total(whole)}"


def shown(query):
    """Over all the time shown."""
    return query.replace("$__rate_interval", "$__range")


CONTENT = [
    ("Do calls work?", [
        number("Connected", "Of the calls that were connected or failed, those that were connected, over the time shown. Each of "
               "the two users may report a call.", "percentunit", ("connected", shown(share(CONNECTED, TRIED))),
               steps=[(None, "red"), (0.9, "orange"), (0.97, "green")], now=True, width=6),
        number("Relayed", "Of the connected calls, those that went over a TURN server, over the time shown: what that server has to "
               "carry.", "percentunit", ("relayed", shown(share(RELAYED, CONNECTED))), now=True, width=6),
        number("Set-up", "Half of the calls were connected this soon after the match, over the time shown.", "s",
               ("50 %", shown(percentile(50, "call_setup_seconds"))), steps=SOON, now=True, width=6),
        number("First heard", "Half of the users heard their partner this soon after the match, over the time shown.", "s",
               ("50 %", shown(percentile(50, "call_audio_seconds"))), steps=SOON, now=True, width=6),
    ]),
    ("Set-up", [
        lines("Calls by outcome", "Calls reported in a second. `abandoned`: somebody left before it was known.", "ops",
              ("{{outcome}}", total(REPORTED, "outcome")), stacked=True),
        events("Why calls were not connected", "In a second, by reason. Many `ice_failed`: is there a TURN server, and can users reach "
               "it? `no_candidates`: browsers without a way out. `microphone`: an app asked for it after the match, and users did not allow it.", "ops",
               ("{{reason}}", total(rate(server("call_failures_total")), "reason"))),
        lines("How voices go", "Calls connected in a second: from user to user, or over a TURN server.", "ops",
              ("{{path}}", total(CONNECTED, "path")), stacked=True),
        lines("From the match to the connection", "At most this long did so many of the calls take.", "s",
              *percentiles("call_setup_seconds", 50, 95, 99)),
        lines("From the match to the first heard", "At most this long did so many of the users wait until they heard their "
              "partner.", "s", *percentiles("call_audio_seconds", 50, 95, 99)),
        heat("How the set-up times are spread", "How many calls a second were connected after how long. A second band is often "
             "those that need a TURN server.", "call_setup_seconds"),
    ]),
    ("In the call", [
        lines("Audio lost", "At most this share of the partner's audio was lost in so many of the calls. From 2 % on it is heard.",
              "percentunit", *percentiles("call_lost_audio_ratio", 50, 95, 99), limit=0.02),
        events("New paths", "In a second: how often clients looked for a new path in a call, as after a change from wifi to mobile.",
               "ops", ("restarts", total(rate(server("call_restarts_total"))))),
        events("Kinds of address", "Calls reported in a second, by the kinds of address of the two. `host`: the machine's own. `srflx`, "
               "`prflx`: as seen through a router. `relay`: a TURN server's.", "ops",
               ("{{local}} to {{remote}}", total(rate(server("call_candidates_total")), "local", "remote"))),
    ]),
]

JSON = dashboard(
    "Calls",
    "Whether users hear each other, as their clients report it.",
    "now-6h",
    CONTENT,
)
