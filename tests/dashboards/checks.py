"""What must hold of dashboards and rules after a run. Each check returns the sentences about what does not."""

import re
from collections import defaultdict

from machines import open_files, resident_bytes
from panels import choices

# Queries that may return nothing even so, and why: by the alert, or by the panel and the legend.
MAY_BE_EMPTY = {
    "VoicematchAbsent": "it asks whether there is no server, and there is one; rules.test.yml tries the other case",
    ("Users the app was asked about", "{{instance}} {{result}}"): "the server of this run asks no app",
    ("Keys of tokens fetched", "{{instance}} {{result}}"): "nor has it keys from a URL",
    ("Time since the app took events", "{{instance}}"): "the server of this run tells no app",
    ("Events", "{{instance}} taken"): "nor does it make events",
    ("Events", "{{instance}} dropped: {{reason}}"): "nor does it make events",
    ("Requests with events", "{{instance}} {{result}}"): "nor does it make events",
    ("Time the app takes to answer", "50 %"): "the server of this run asks no app",
    ("Time the app takes to answer", "99 %"): "the server of this run asks no app",
    ("New lives", "{{instance}} {{reason}}"): "no server of this run is declared dead",
    ("CPU of the engine", "{{instance}}"): "this run has no redis_exporter",
    ("Memory of the engine", "{{instance}}"): "this run has no redis_exporter",
    ("Proposals without an answer", "{{instance}}"): "each server answers",
    ("Gaps", "{{instance}} {{result}}"): "two servers that say little lose nothing",
    ("Dropped", "{{instance}} {{reason}}"): "two servers that say little lose nothing",
    ("Errors of the provider", "twice"): "the provider of this run says nothing twice",
    ("Batches that failed", "batches"): "the database of this run takes everything",
    ("Records that were not stored", "{{reason}}"): "the database of this run takes everything",
    ("Records that were not stored", "finals and gaps"): "the database of this run takes everything",
    ("Sessions that came along", "{{result}}"): "tests/e2e/cluster_resume.rs moves sessions",
    ("Rooms of one name", "{{instance}}"): "no room of this run begins on two servers; tests/e2e/cluster_rooms_apart.rs",
    ("Unknown frames", "{{instance}} packets"): "there is no later version",
    ("Unknown frames", "{{instance}} frames"): "there is no later version",
    ("At another server", "{{result}}"): "one server of this run transcribes; tests/e2e/transcription_moved.rs",
}

# Metrics that neither a dashboard nor a rule needs, and why.
UNUSED = {}


def query_of(asked, *place):
    """`place`: dashboard, panel, legend."""
    found = [question.query for question in asked if (question.dashboard, question.panel, question.legend) == place]
    assert len(found) == 1, f"{len(found)} queries, and not one, at {place}"
    return found[0]


def panels(prometheus, asked, start, end):
    """Each query returns data, with the labels that its legend names."""
    for question in asked:
        try:
            found = prometheus.at(end, question.query) if question.now else prometheus.during(start, end, question.query)
        except ValueError as error:
            yield f"{error}: {question}"
            continue
        labels = [labels for labels, _ in found]
        if not labels and (question.panel, question.legend) not in MAY_BE_EMPTY:
            yield f"no data: {question}"
        for name in re.findall(r"{{(\w+)}}", question.legend):
            if not all(name in series for series in labels):
                yield f"no label {name}: {question}"


def variables(prometheus, values, start, end):
    """Each variable has something to choose."""
    for dashboard, name, selector, label in choices(values):
        series = prometheus.get("series", **{"match[]": selector, "start": start, "end": end})
        if not any(label in labels for labels in series):
            yield f"{dashboard}: nothing to choose for {name}"


def rules(prometheus, end):
    """Each recorded metric has a value; and what an alert compares is there, whether or not it fires now."""
    for rule in prometheus.rules():
        if rule["health"] != "ok":
            yield f"{rule['name']}: {rule['lastError']}"
        if rule["type"] == "alerting":
            # Compared like this, the answer is 0 or 1 instead of something or nothing.
            query = re.sub(r" (>|<|==) ", r" \1 bool ", rule["query"])
        else:
            query = rule["name"] + "{" + ",".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items()) + "}"
        if not prometheus.at(end, query) and rule["name"] not in MAY_BE_EMPTY:
            yield f"{rule['name']} has no data: {query}"


def counts(prometheus, asked, before, end, report):
    """What panels count is what loadtest counted."""

    def query(*place):
        return query_of(asked, *place)

    def counted(dashboard, panel, legend):
        """Instead of a panel's rates what they are the rates of, from the begin of the run to its end, by labels."""
        total = re.sub(r"rate\((\w+{[^}]*})\[\w+\]\)", r"\1", query(dashboard, panel, legend))
        at_begin, at_end = [
            {"/".join(labels.values()): value for labels, value in prometheus.at(moment, total)} for moment in (before, end)
        ]
        return {labels: value - at_begin.get(labels, 0) for labels, value in at_end.items()}

    def highest(dashboard, panel, legend):
        total = re.sub(r"rate\((\w+{[^}]*})\[\w+\]\)", r"\1", query(dashboard, panel, legend))
        return max(max(values.values()) for _, values in prometheus.during(before, end, total))

    matches, connections = report["matches"], report["connections"]
    sent, delivered = defaultdict(int), defaultdict(int)
    for part in report["delivery"]:
        sent[part["kind"]] += part["sent"]
        delivered[part["kind"]] += part["delivered"]
    resumed = report["failover"]["resumed"]
    came = matches["matched"] + next(call["answered"] for call in report["calls"] if call["name"] == "join_room")
    messages = counted("matchmaking.json", "Messages", "{{type}}")
    rates = prometheus.during(before, end, query("overview.json", "Messages", "messages"))
    figures = [
        ("users who asked for a match", sum(counted("matchmaking.json", "Asked and matched", "asked").values()),
         matches["searches"], matches["searches"]),
        # Who was matched in the last moment may not have heard of it.
        ("users matched", sum(counted("matchmaking.json", "Asked and matched", "matched").values()),
         matches["matched"], matches["searches"]),
        ("users matched, by pool", 2 * sum(counted("matchmaking.json", "Matches", "{{pool}}").values()),
         matches["matched"], matches["searches"]),
        # loadtest looks first whether there is a server.
        ("sessions", sum(counted("matchmaking.json", "Sessions begun and ended", "begun").values()),
         connections["succeeded"], connections["succeeded"] + 1),
        # A poll is no connection that could be lost, so it carries on nothing.
        ("sessions carried on", sum(counted("matchmaking.json", "From which transport to which", "{{from}} to {{to}}").values()),
         resumed["ws"] + resumed["sse"], resumed["ws"] + resumed["sse"] + report["failover"]["moved_back"]),
        # Each second's rate, added up: within 10 %, as a busy machine is read late.
        ("messages, from the rate", sum(sum(values.values()) for _, values in rates),
         0.9 * sum(messages.values()), 1.1 * sum(messages.values())),
        ("most users, on the server", highest("load-test.json", "Users", "server"), connections["peak"], connections["peak"] + 1),
        ("most users, in loadtest", highest("load-test.json", "Users", "loadtest"), connections["peak"], connections["peak"]),
        # The last second of loadtest is not read any more.
        ("messages received, in loadtest", highest("load-test.json", "Messages", "received"),
         0.9 * sum(delivered.values()), sum(delivered.values())),
        ("users who came into a room, in loadtest", highest("load-test.json", "Users who came into a room", "loadtest"),
         0.9 * came, came),
        ("users who came into a room, on the server", sum(counted("load-test.json", "Users who came into a room", "server").values()),
         came, came + matches["pending"]),
    ]
    for kind in ("offer", "answer", "ice_candidate", "message"):
        # What is not delivered went to somebody who had left meanwhile.
        figures.append((f"messages of the type {kind}", messages.get(kind, 0), delivered[kind], sent[kind]))

    # A percentile of the server lies somewhere in a bucket, which is up to 2.5 times as long at its end as at its begin.
    waited = re.sub(r"\[\w+\]", f"[{end - before:.0f}s]", query("overview.json", "Wait for a match", "95 %"))
    of_loadtest = report["latency"]["match"]["quantiles_ms"]["p95"] / 1000
    figures.append(("95 % of the waits", prometheus.at(end, waited)[0][1], of_loadtest / 2.5, of_loadtest * 2.5))

    for what, value, least, most in figures:
        if not (least <= value <= most and value > 0):
            yield f"{what}: the dashboards say {value:g}, loadtest between {least:g} and {most:g}"


def process(prometheus, asked, now, server):
    """What panels say of the process is what the kernel says."""
    for panel, truth, tolerance in [("Resident memory", resident_bytes(server), 0.2), ("Descriptors", open_files(server), 0.1)]:
        for _, value in prometheus.at(now, query_of(asked, "node.json", panel, "{{instance}}")):
            if abs(value / truth - 1) > tolerance:
                yield f"{panel}: the dashboards say {value:g}, the kernel {truth:g}"


def every_metric_is_used(prometheus, asked, exposed):
    """By a dashboard or a rule, or it stands in a list with the reason why not. `exposed`: texts of /metrics."""
    names = set(re.findall(r"^# TYPE (\w+)", exposed, re.MULTILINE))
    texts = [question.query for question in asked] + [rule["query"] for rule in prometheus.rules()]
    words = {re.sub("_(bucket|sum|count)$", "", word) for text in texts for word in re.findall(r"\w+", text)}
    used = names & (words | set(re.findall(r"\w+", " ".join(texts))))
    yield from (f"no dashboard and no rule uses {name}" for name in sorted(names - used - set(UNUSED)))
    yield from (f"{name} is in the list of unused metrics, and is used or gone" for name in sorted(set(UNUSED) - (names - used)))
