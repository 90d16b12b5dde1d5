"""What panels say, beside what loadtest, which played the users, says of the same."""

import re
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from checks import query_of


@dataclass
class Figure:
    """`places`: the panels that say it, each as dashboard, panel, legend."""

    what: str
    places: list
    value: float
    # What the other side says.
    least: float
    most: float
    by: str = "loadtest"

    @property
    def agrees(self):
        return self.least <= self.value <= self.most

    @property
    def said(self):
        between = f"{self.least:g}" if self.least == self.most else f"{self.least:g} to {self.most:g}"
        return f"{self.what}: {self.value:g}; {self.by}: {between}"

    @property
    def sentence(self):
        return f"the dashboards say something else. {self.said}"


class Shown:
    """What panels show of a run, from its begin to its end."""

    def __init__(self, prometheus, asked, begin, end):
        self.prometheus, self.asked, self.begin, self.end = prometheus, asked, begin, end

    def query(self, place):
        return query_of(self.asked, *place)

    def total(self, place):
        """Instead of a panel's rates what they are the rates of."""
        return re.sub(r"rate\((\w+{[^}]*})\[\w+\]\)", r"\1", self.query(place))

    def counted(self, place):
        """What a panel's rates are the rates of, in all, by labels."""
        total = re.sub(r" > 0$", "", self.total(place))
        at_begin, at_end = [
            {"/".join(labels.values()): value for labels, value in self.prometheus.at(moment, total)}
            for moment in (self.begin, self.end)
        ]
        return {labels: value - at_begin.get(labels, 0) for labels, value in at_end.items()}

    def seen(self, place):
        """All its values."""
        return [value for _, values in self.during(self.total(place)) for value in values.values()]

    def used(self, place):
        """The most by which what a rate is of has grown, of one process."""
        return max(max(values.values()) - min(values.values()) for _, values in self.during(self.total(place)))

    def during(self, query):
        return self.prometheus.during(self.begin, self.end, query)


def figures(prometheus, asked, begin, end, report, events):
    """`report`: of loadtest; `events`: what the app has taken meanwhile, by type."""
    shown = Shown(prometheus, asked, begin, end)
    yield from matching(shown, report, events)
    yield from messages(shown, report)
    yield from sessions(shown, report)
    yield from latencies(shown, report)
    yield from costs(shown, report)


def matching(shown, report, events):
    matches = report["matches"]
    came = matches["matched"] + next(call["answered"] for call in report["calls"] if call["name"] == "join_room")
    place = "matchmaking.json", "Asked and matched", "asked"
    yield Figure("users who asked for a match", [place], sum(shown.counted(place).values()), matches["searches"], matches["searches"])
    # Who was matched in the last moment may not have heard of it.
    place = "matchmaking.json", "Asked and matched", "matched"
    yield Figure("users matched", [place], sum(shown.counted(place).values()), matches["matched"], matches["searches"])
    place = "matchmaking.json", "Matches", "{{pool}}"
    yield Figure("users matched, by pool", [place], 2 * sum(shown.counted(place).values()), matches["matched"], matches["searches"])
    # The last second of loadtest is not read any more.
    place = "load-test.json", "Users who came into a room", "loadtest"
    yield Figure("users who came into a room, in loadtest", [place], max(shown.seen(place)), 0.9 * came, came)
    place = "load-test.json", "Users who came into a room", "server"
    most = came + matches["pending"]
    yield Figure("users who came into a room", [place], sum(shown.counted(place).values()), came, most)
    place = "node.json", "Events", "{{instance}} taken"
    taken = sum(events.values())
    yield Figure("events taken", [place], sum(shown.counted(place).values()), taken, taken, by="the app")
    yield Figure("users matched, by the app's events", [place], 2 * events["match.made"], matches["matched"], matches["searches"])


def messages(shown, report):
    sent, delivered = defaultdict(int), defaultdict(int)
    for part in report["delivery"]:
        sent[part["kind"]] += part["sent"]
        delivered[part["kind"]] += part["delivered"]
    place = "matchmaking.json", "Messages", "{{type}}"
    relayed = shown.counted(place)
    for kind in ("offer", "answer", "ice_candidate", "message"):
        # What is not delivered went to somebody who had left meanwhile.
        yield Figure(f"messages of the type {kind}", [place], relayed.get(kind, 0), delivered[kind], sent[kind])
    # Each second's rate, added up: within 10 %, as a busy machine is read late.
    place, all_of_them = ("overview.json", "Messages", "messages"), sum(relayed.values())
    rates = shown.during(shown.query(place))
    yield Figure("messages, from the rate", [place], sum(sum(values.values()) for _, values in rates),
                 0.9 * all_of_them, 1.1 * all_of_them)  # fmt: skip
    place = "load-test.json", "Messages", "sent"
    yield Figure("messages sent, in loadtest", [place], max(shown.seen(place)), 0.9 * sum(sent.values()), sum(sent.values()))
    place, got = ("load-test.json", "Messages", "received"), sum(delivered.values())
    yield Figure("messages received, in loadtest", [place], max(shown.seen(place)), 0.9 * got, got)
    place = "load-test.json", "Messages", "relayed"
    yield Figure("messages relayed", [place], sum(shown.counted(place).values()), got, sum(sent.values()))


def sessions(shown, report):
    connections, resumed = report["connections"], report["failover"]["resumed"]
    begun, peak = connections["succeeded"], connections["peak"]
    # loadtest looks first whether there is a server.
    place = "matchmaking.json", "Sessions begun and ended", "begun"
    yield Figure("sessions", [place], sum(shown.counted(place).values()), begun, begun + 1)
    place = "node.json", "Users the app was asked about", "{{instance}} {{result}}"
    yield Figure("users the app was asked about", [place], sum(shown.counted(place).values()), begun, begun + 1)
    # A poll is no connection that could be lost, so it carries on nothing.
    place, went_on = ("matchmaking.json", "From which transport to which", "{{from}} to {{to}}"), resumed["ws"] + resumed["sse"]
    yield Figure("sessions carried on", [place], sum(shown.counted(place).values()), went_on,
                 went_on + report["failover"]["moved_back"])  # fmt: skip
    place = "load-test.json", "Users", "server"
    yield Figure("most users, on the server", [place], max(shown.seen(place)), peak, peak + 1)
    place = "load-test.json", "Users", "loadtest"
    yield Figure("most users, in loadtest", [place], max(shown.seen(place)), peak, peak)
    in_rooms = max(window["in_rooms"] for window in report["series"]["windows"])
    for legend in ("loadtest", "server"):
        place = "load-test.json", "Users in rooms", legend
        yield Figure(f"most users in rooms, {legend}", [place], max(shown.seen(place)), 0.9 * in_rooms, peak)
    # Requests that the server refuses, and nothing else where the machine is quick enough.
    errors = sum(error["count"] for error in report["errors"])
    refused = sum(error["count"] for error in report["errors"] if error["kind"] == "call_wrong")
    for place in [("load-test.json", "Errors", "errors"), ("load-test.json", "Errors", "loadtest")]:
        yield Figure("errors, in loadtest", [place], max(shown.seen(place)), refused, errors)
    place = "matchmaking.json", "Requests refused", "{{code}}"
    yield Figure("requests refused", [place], shown.counted(place).get("unknown_type", 0), refused, refused)
    # A message to somebody who has just left is refused, and for loadtest no error.
    place, undelivered = ("load-test.json", "Errors", "server"), sum(part["undeliverable"] for part in report["delivery"])
    yield Figure("requests refused, all", [place], sum(shown.counted(place).values()), refused, errors + undelivered)


def latencies(shown, report):
    windows = report["series"]["windows"]
    # A percentile of the server lies somewhere in a bucket, which is up to 2.5 times as long at its end as at its begin.
    of_loadtest = report["latency"]["match"]["quantiles_ms"]["p95"] / 1000
    place = "overview.json", "Wait for a match", "95 %"
    waited = re.sub(r"\[\w+\]", f"[{shown.end - shown.begin:.0f}s]", shown.query(place))
    in_server = shown.prometheus.at(shown.end, waited)[0][1]
    yield Figure("95 % of the waits, in s", [place], in_server, of_loadtest / 2.5, of_loadtest * 2.5)
    # loadtest shows each second's, which its record has too; a second may be read twice, and another one not at all.
    for place, name, percent in [
        (("load-test.json", "Match", "loadtest"), "matching", "p95_ms"),
        (("load-test.json", "Message", "loadtest"), "message", "p99_ms"),
    ]:
        seconds = sorted(window[name][percent] / 1000 for window in windows if window[name][percent] is not None)
        yield Figure(f"{percent[1:3]} % of each second's latencies ({name}), in s: the middle one", [place],
                     median(shown.seen(place)), at(seconds, 0.25), at(seconds, 0.75))  # fmt: skip
    # What the server takes is a part of what users see, and they are late by themselves.
    place = "load-test.json", "Message", "server"
    relayed = re.sub(r"\[\w+\]", f"[{shown.end - shown.begin:.0f}s]", shown.query(place))
    most = report["latency"]["message"]["quantiles_ms"]["p99"] / 1000
    yield Figure("99 % of the messages, in s", [place], shown.prometheus.at(shown.end, relayed)[0][1], 0, most * 2.5)


def costs(shown, report):
    """CPU time between the first and the last look, which loadtest has at other moments than Prometheus."""
    for place, used in [
        (("load-test.json", "CPU", "server {{instance}}"), report["server"]["cpu_seconds"]),
        (("load-test.json", "CPU", "loadtest {{instance}}"), report["generator"]["cpu_seconds"]),
    ]:
        yield Figure(f"CPU time, in s, {place[2]}", [place], shown.used(place), 0.7 * used, 1.3 * used)
    for place, peak in [
        (("load-test.json", "Memory", "server {{instance}}"), report["server"]["rss_peak_bytes"]),
        (("load-test.json", "Memory", "loadtest {{instance}}"), report["generator"]["rss_peak_bytes"]),
    ]:
        yield Figure(f"most memory, in bytes, {place[2]}", [place], max(shown.seen(place)), 0.8 * peak, 1.2 * peak)


def at(ordered, share):
    return ordered[int(share * (len(ordered) - 1))]
