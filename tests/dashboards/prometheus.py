"""Asks a Prometheus."""

import json
import math
import urllib.error
import urllib.parse
import urllib.request


class Prometheus:
    def __init__(self, address):
        self.address = address

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise  # It is not ready yet.
            raise ValueError(json.load(error)["error"]) from error

    def at(self, moment, query):
        """The series of a query at a moment: pairs of labels and value. Without those that are not a number."""
        data = self.get("query", query=query, time=moment)
        if data["resultType"] == "scalar":
            data["result"] = [{"metric": {}, "value": data["result"]}]
        found = [(series["metric"], float(series["value"][1])) for series in data["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def during(self, start, end, query):
        """The same for each second: pairs of labels and a dictionary from moments to values."""
        data = self.get("query_range", query=query, start=start, end=end, step=1)
        found = []
        for series in data["result"]:
            values = {moment: float(value) for moment, value in series["values"]}
            values = {moment: value for moment, value in values.items() if not math.isnan(value)}
            if values:
                found.append((series["metric"], values))
        return found

    def rules(self):
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]
