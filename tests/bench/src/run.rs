//! One repetition: every phase, against one fresh server.

use crate::{
    Problem, churn,
    figures::{CHURN, CLOSED, Figures, MATCH, Quiet},
    machine::Places,
    options::Compare,
    phases::Held,
    process::rss,
    server::Server,
};

const KIB: f64 = 1024.0;

/// Starts `command`, measures it, ends it.
pub(crate) fn repetition(
    command: &str,
    options: &Compare,
    places: &Places,
) -> Result<Figures, Problem> {
    let common = &options.common;
    let server = Server::start(command, places)?;
    let pid = server.pid();
    let busy = places.apart();
    let mut held = Held::new(&server, options.users, common.payload_bytes, busy)?;
    let mut figures = Figures::default();

    held.rest(common.settle / 3.0)?;
    let base = rss(pid)?;
    figures.base_rss_mib = base as f64 / KIB / KIB;
    let each = |now: u64| (now as f64 - base as f64) / KIB / options.users as f64;
    held.connect()?;
    held.rest(common.settle)?;
    figures.idle_kib = each(rss(pid)?);

    let matching = held.match_all()?;
    figures.match_all_ms = matching.last as f64 / 1e6;
    figures.match_cpu_us = matching.window.cpu_us_each(options.users as u64);
    figures.quiet.insert(MATCH, Quiet::of(&matching.window));
    held.rest(common.settle)?;
    figures.matched_kib = each(rss(pid)?);

    held.meet()?;
    figures.open(&held.open_loop(options.rate as f64, options.seconds, || Ok(()))?);

    let closed = held.closed_loop(options.window, options.seconds)?;
    figures.closed_rate = closed.delivered as f64 / closed.window.seconds();
    figures.closed_cpu_us = closed.window.cpu_us_each(closed.delivered);
    figures.closed_server_percent = closed.window.server_percent();
    figures.quiet.insert(CLOSED, Quiet::of(&closed.window));

    held.leave()?;
    std::thread::sleep(std::time::Duration::from_secs_f64(common.settle));
    figures.after_peak_mib = rss(pid)? as f64 / KIB / KIB;

    if options.slots > 0 {
        let seconds = options.seconds;
        let churn = churn::run(&server, options.slots, common.payload_bytes, seconds, busy)?;
        figures.churn_rate = Some(churn.done as f64 / churn.window.seconds());
        figures.churn_cpu_us = Some(churn.window.cpu_us_each(churn.done));
        figures.churn_failed = Some(churn.failed);
        figures.quiet.insert(CHURN, Quiet::of(&churn.window));
    }
    Ok(figures)
}
