use super::*;
use crate::golden::example;

#[test]
fn the_page_loads_nothing() {
    let page = html(&example::everything());
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        let mut places = page
            .match_indices(outside)
            .map(|(at, _)| &page[at..(at + 60).min(page.len())]);
        assert_eq!(places.next(), None);
    }
    assert!(page.len() < 700_000, "{} bytes", page.len());
}

#[test]
fn every_part_is_there_and_every_figure_is_a_number() {
    let page = html(&example::everything());
    for part in [
        "Thresholds",
        "Advice",
        "Against main.json",
        "class=\"stairs\"",
        "Recovery",
        "Drift of server_rss_bytes",
        "All message latencies",
        "Match latency",
        "Connection time",
        "Server CPU",
        "Funnel",
        "Delivery",
        "Calls",
        "Errors",
        "Phases",
        "Resources",
        "class=\"limit\"",
        "class=\"line base\"",
        "class=\"band\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for wrong in ["NaN", "inf%", "None", "-0.0%"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
}

#[test]
fn an_empty_run_is_a_page_too() {
    let mut record = example::record();
    record.series.windows.clear();
    record.latency.clear();
    record.delivery.clear();
    record.thresholds.clear();
    record.phases.clear();
    record.server = None;
    record.run.active_ms = 0.0;
    let page = html(&record);
    assert!(page.contains("</html>") && !page.contains("NaN"), "{page}");
}

#[test]
fn texts_from_the_server_are_not_markup() {
    let mut record = example::everything();
    let evil = "</script><script>alert(1)</script>\"'".to_owned();
    record.errors[0].kind.clone_from(&evil);
    record.phases[0].name.clone_from(&evil);
    record.run.scenario.clone_from(&evil);
    record.thresholds[0].expression.clone_from(&evil);
    let page = html(&record);
    assert!(!page.contains("<script>alert"));
    assert_eq!(
        page.matches("<script").count(),
        page.matches("</script>").count()
    );
}
