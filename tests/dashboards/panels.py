"""What the dashboards ask: every query, as Grafana would send it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"


@dataclass
class Question:
    dashboard: str
    panel: str
    legend: str
    query: str
    # The query with its variables.
    written: str
    # Asked for the present only, not for a time.
    now: bool

    def __str__(self):
        return f"{self.dashboard}, {self.panel!r}, {self.legend!r}: {self.query}"


def questions(values):
    """Of all panels and annotations, with these values of the variables."""
    for path in sorted(FOLDER.glob("*.json")):
        content = json.loads(path.read_text())
        for panel in content["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                now = target.get("instant", False)
                yield Question(path.name, panel["title"], target["legendFormat"], fill_in(query, values), query, now)
        for mark in content["annotations"]["list"]:
            query = mark["expr"]
            yield Question(path.name, mark["name"], mark["textFormat"], fill_in(query, values), query, False)


def choices(values):
    """What variables offer: the dashboard, the variable, the selector and the label whose values are offered."""
    for path in sorted(FOLDER.glob("*.json")):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                yield path.name, variable["name"], fill_in(asked[1], values), asked[2]


def chosen(value):
    """What Grafana writes for a chosen value where `=~` is expected."""
    return re.escape(value).replace("\\", "\\\\")


def fill_in(text, values):
    filled = re.sub(r"\$(\w+)", lambda variable: values[variable[1]], text)
    assert "$" not in filled, filled
    return filled
