"""The answers as a table."""

from checks import BEFORE, answered


def table(prometheus, asked, start, end, compared):
    """Lines in Markdown: of each query what it returned, and what loadtest or the app says of it."""
    yield "| dashboard | panel: legend | query | returned | compared |"
    yield "|---|---|---|---|---|"
    for question in asked:
        place = question.dashboard, question.panel, question.legend
        said = "; ".join(figure.said for figure in compared if place in figure.places)
        where = f"{question.panel}: {question.legend}" if question.legend else question.panel
        yield row(question.dashboard, where, f"`{question.written}`", returned(prometheus, question, start, end), said)
    for rule in prometheus.rules():
        # Of an alert 0 or 1: whether it would fire.
        values = [value for _, value in prometheus.at(start - 3600 if rule["name"] in BEFORE else end, answered(rule))]
        yield row("rules.yml", rule["name"], f"`{rule['query']}`", spread(values, len(values)), "")


def row(*cells):
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def returned(prometheus, question, start, end):
    if question.now:
        values = [value for _, value in prometheus.at(end, question.query)]
        series = len(values)
    else:
        found = prometheus.during(start, end, question.query)
        values, series = [value for _, values in found for value in values.values()], len(found)
    return spread(values, series)


def spread(values, series):
    return f"{series} series, {min(values):.4g} to {max(values):.4g}" if values else "nothing"
