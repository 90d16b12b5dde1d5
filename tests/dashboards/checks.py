"""What must hold of dashboards and rules after a run. Each check returns the sentences about what does not."""

import re

from machines import open_files, resident_bytes
from panels import choices

# Queries that may return nothing even so, and why: by the alert, or by the panel and the legend.
MAY_BE_EMPTY = {}

# Alerts that compare nothing while there is a server. They are asked about the time before there was one.
BEFORE = {"VoicematchAbsent"}

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


def rules(prometheus, start, end):
    """Each recorded metric has a value; and what an alert compares is there, whether or not it fires now."""
    for rule in prometheus.rules():
        if rule["health"] != "ok":
            yield f"{rule['name']}: {rule['lastError']}"
        query = answered(rule)
        moment = start - 3600 if rule["name"] in BEFORE else end
        if not prometheus.at(moment, query) and rule["name"] not in MAY_BE_EMPTY:
            yield f"{rule['name']} has no data: {query}"


def answered(rule):
    """A query whose answer is there whether or not an alert fires."""
    if rule["type"] == "alerting":
        # Compared like this, the answer is 0 or 1 instead of something or nothing.
        return re.sub(r" (>|<|==) ", r" \1 bool ", rule["query"])
    return rule["name"] + "{" + ",".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items()) + "}"


def process(prometheus, asked, now, server):
    """What panels say of the process is what the kernel says."""
    for panel, truth, tolerance in [("Resident memory", resident_bytes(server.process), 0.2), ("Descriptors", open_files(server.process), 0.1)]:
        found = prometheus.at(now, query_of(asked, "node.json", panel, "{{instance}}"))
        values = [value for labels, value in found if labels.get("instance") == server.admin]
        if len(values) != 1:
            yield f"{panel}: {len(values)} series, and not one, of {server.admin} among {[labels for labels, _ in found]}"
        elif abs(values[0] / truth - 1) > tolerance:
            yield f"{panel}: the dashboards say {values[0]:g}, the kernel {truth:g}"


def every_metric_is_used(prometheus, asked, exposed):
    """By a dashboard or a rule, or it stands in a list with the reason why not. `exposed`: texts of /metrics."""
    names = set(re.findall(r"^# TYPE (\w+)", exposed, re.MULTILINE))
    texts = [question.query for question in asked] + [rule["query"] for rule in prometheus.rules()]
    words = {re.sub("_(bucket|sum|count)$", "", word) for text in texts for word in re.findall(r"\w+", text)}
    used = names & (words | set(re.findall(r"\w+", " ".join(texts))))
    yield from (f"no dashboard and no rule uses {name}" for name in sorted(names - used - set(UNUSED)))
    yield from (f"{name} is in the list of unused metrics, and is used or gone" for name in sorted(set(UNUSED) - (names - used)))
