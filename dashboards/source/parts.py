"""What all dashboards are made of: queries, panels, variables, annotations, links.

Every panel needs a title, a description and a unit: the functions do not work without.
"""

import json

from grafana_foundation_sdk.builders import bargauge, common as look, dashboard as grafana
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as styles, dashboard as model, prometheus as formats

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

# The product's objectives, as in rules.yml.
MATCH_SECONDS = 2
MESSAGE_SECONDS = 0.1
MEMORY_BYTES = 2e9


# --- Queries: each returns a text in Prometheus's language.


def server(metric, *labels):
    """A metric of the servers that the variables name."""
    return select(metric, 'job=~"$job"', 'instance=~"$instance"', *labels)


def service(metric, *labels):
    """A recorded metric, which is of all servers of a job together."""
    return select(metric, 'job=~"$job"', *labels)


def generator(metric, *labels):
    """A metric of the load tests that the variable of their dashboard names."""
    return select(metric, 'instance=~"$generator"', *labels)


def select(metric, *labels):
    return metric + "{" + ", ".join(labels) + "}"


def rate(selector):
    return f"rate({selector}[$__rate_interval])"


def total(expression, *by):
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def share(metric, limit):
    """How much of a limit of the servers is used, with the limit's name as a label."""
    selected = server("limits", f'limit="{limit}"')
    return f"{server(metric)} / on (job, instance) group_right () {selected}"


def percentile(percent, histogram, *by):
    buckets = total(rate(server(f"{histogram}_bucket")), "le", *by)
    return f"histogram_quantile({percent / 100:g}, {buckets})"


def percentiles(histogram, *percents):
    return [(f"{percent:g} %", percentile(percent, histogram)) for percent in percents]


# --- Panels. `queries` are pairs of a legend and a query.


def lines(title, description, unit, *queries, limit=None, least=0, most=None, stacked=False, dashed=None, width=8):
    """Values over time. `limit`: a line that should not be crossed. `dashed`: what the legends of forecasts end with."""
    panel = _targets(timeseries.Panel(), title, description, unit, queries, width, 8)
    # The axis begins there, or where a value is lower.
    panel.axis_soft_min(least)
    panel.tooltip(look.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI))
    if most is not None:
        panel.max(most)
    if limit is not None:
        panel.thresholds(_steps([(None, "transparent"), (limit, "red")]))
        panel.thresholds_style(look.GraphThresholdsStyleConfig().mode(styles.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.fill_opacity(20).stacking(look.StackingConfig().mode(styles.StackingMode.NORMAL))
    if dashed:
        style = model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]})
        panel.override_by_regexp(f"/{dashed}$/", [style])
    return panel


def events(title, description, unit, *queries, width=8):
    """Things that should be rare, as bars; only those that happened."""
    panel = _targets(timeseries.Panel(), title, description, unit, _happened(queries), width, 8).min(0)
    panel.tooltip(look.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI))
    panel.draw_style(styles.GraphDrawStyle.BARS).fill_opacity(60)
    return panel.stacking(look.StackingConfig().mode(styles.StackingMode.NORMAL)).no_value("none in this time")


def number(title, description, unit, *queries, steps=((None, "green"),), now=False, text="auto", width=4, height=4):
    """One number, coloured by `steps`, with its course behind it; `now`: without the course."""
    panel = _targets(stat.Panel(), title, description, unit, queries, width, height, now)
    panel.thresholds(_steps(steps)).text_mode(styles.BigValueTextMode(text)).reduce_options(_latest())
    return panel.graph_mode(styles.BigValueGraphMode.NONE) if now else panel


def fill(title, description, *queries, width=8):
    """How full things are, as bars from 0 to 100 %."""
    panel = _targets(bargauge.Panel(), title, description, "percentunit", queries, width, 8, now=True)
    panel.min(0).max(1).orientation(styles.VizOrientation.HORIZONTAL).reduce_options(_latest())
    return panel.thresholds(_steps([(None, "green"), (0.7, "orange"), (0.8, "red")]))


def heat(title, description, histogram, width=8):
    """How many observations fell where, over time."""
    buckets = total(rate(server(f"{histogram}_bucket")), "le")
    query = _query("A", "{{le}}", buckets).format(formats.PromQueryFormat.HEATMAP)
    panel = _frame(heatmap.Panel(), title, description, width, 8)
    return panel.unit("s").with_target(query).y_axis(heatmap.YAxisConfig().unit("s"))


def rows(title, description, query, columns, width=24):
    """A table of the series that a query returns now, with these labels as columns."""
    target = _query("A", "", query).instant().format(formats.PromQueryFormat.TABLE)
    panel = _frame(table.Panel(), title, description, width, 8).with_target(target).no_value("none")
    hidden = {"Time": True, "Value": True}
    order = {name: place for place, name in enumerate(columns)}
    options = {"excludeByName": hidden, "indexByName": order}
    return panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=options))


def more(panel, *dashboards):
    """Links from a panel to the dashboards that say more."""
    variables = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    return panel.links(
        [grafana.DashboardLink(name).type(model.DashboardLinkType.LINK).url(f"/d/{_uid(name)}?{variables}") for name in dashboards]
    )


# --- Dashboards.


def dashboard(title, description, since, content, variables=()):
    """A dashboard as JSON. `content`: pairs of a row's title and its panels."""
    built = grafana.Dashboard(f"voicematch: {title}").uid(_uid(title)).description(description)
    built.tags(["voicematch"]).timezone("browser").refresh("30s").time(since, "now")
    built.tooltip(model.DashboardCursorSync.CROSSHAIR)
    built.link(
        grafana.DashboardLink("voicematch").type(model.DashboardLinkType.DASHBOARDS)
        .tags(["voicematch"]).include_vars(True).keep_time(True)
    )
    built.with_variable(grafana.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    # `up` is there for a server that is not, so it can be chosen, and is counted where all are chosen.
    built.with_variable(choice("job", "Service", 'label_values(up{job=~"voicematch.*"}, job)'))
    built.with_variable(choice("instance", "Server", 'label_values(up{job=~"$job"}, instance)'))
    for variable in variables:
        built.with_variable(variable)
    built.annotation(_annotation("Load tests", "blue", "loadtest_users_planned > 0"))
    built.annotation(_annotation("Server starts", "orange", f"{server('process_start_time_seconds')} * 1000"))
    for name, panels in content:
        built.with_row(grafana.Row(name))
        for panel in panels:
            built.with_panel(panel)
    return _as_json(built.build())


def choice(name, label, query):
    """A variable with the values of a label; one, several or all can be chosen."""
    variable = grafana.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return variable.multi(True).include_all(True).refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).current(
        model.VariableOption(text="All", value="$__all")
    )


# --- Details.


def _uid(title):
    return "voicematch-" + title.lower().replace(" ", "-")


def _happened(queries):
    return [(legend, f"{query} > 0") for legend, query in queries]


def _query(ref, legend, expression):
    return prometheus.Dataquery().ref_id(ref).expr(expression).legend_format(legend)


def _frame(panel, title, description, width, height):
    return panel.title(title).description(description).datasource(SOURCE).span(width).height(height)


def _targets(panel, title, description, unit, queries, width, height, now=False):
    _frame(panel, title, description, width, height).unit(unit)
    for ref, (legend, expression) in zip("ABCDEFGH", queries, strict=False):
        query = _query(ref, legend, expression)
        panel.with_target(query.instant() if now else query)
    return panel


def _steps(steps):
    steps = [model.Threshold(value=value, color=color) for value, color in steps]
    return grafana.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _latest():
    return look.ReduceDataOptions().calcs(["lastNotNull"])


def _annotation(name, color, expression):
    annotation = grafana.AnnotationQuery().name(name).datasource(SOURCE).enable(True)
    return annotation.icon_color(color).expr(expression)


def _as_json(built):
    for place, panel in enumerate(built.panels, 1):
        # The library leaves them out, or at 0 for all rows; links to a panel need them.
        panel.id_val = place
        assert panel.grid_pos.x + panel.grid_pos.w <= 24, f"{panel.title} does not fit into its row"
        if panel.type_val != "row":
            panel.repeat_direction = panel.transparent = None
    for variable in built.templating.list_val:
        # What the library writes for kinds of variables that these are not.
        variable.auto = variable.auto_min = variable.auto_count = None
        variable.allow_custom_value = variable.skip_url_sync = None
    plain = json.loads(JSONEncoder().encode(built))
    for annotation in plain["annotations"]["list"]:
        # These fields of the Prometheus data source are not in the library. A start is drawn at the time that is the
        # metric's value; a load test is drawn as long as there are values.
        annotation |= {"step": "30s", "titleFormat": annotation["name"], "textFormat": "{{instance}}"}
        annotation["useValueForTime"] = annotation["name"] == "Server starts"
    return _text(plain) + "\n"


def _text(value, margin=""):
    """JSON in which what fits into a line is on one line."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(margin + line) <= 120 or not isinstance(value, (dict, list)):
        return line
    deeper = margin + " "
    if isinstance(value, list):
        inside = [_text(item, deeper) for item in value]
    else:
        inside = [f"{json.dumps(key)}: {_text(item, deeper)}" for key, item in sorted(value.items())]
    brackets = "[]" if isinstance(value, list) else "{}"
    return brackets[0] + ",".join(f"\n{deeper}{item}" for item in inside) + f"\n{margin}{brackets[1]}"
