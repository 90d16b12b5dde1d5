use super::*;
use crate::measure::histogram::dense::Latencies;

fn second(n: u64) -> Cell {
    Cell {
        start: Duration::from_secs(n),
        length: Duration::from_secs(1),
        counts: Counts {
            sent: 1,
            ..Counts::default()
        },
        now: Gauges {
            connected: n,
            generator_cpu_percent: n as f64,
            ..Gauges::default()
        },
        ..Cell::default()
    }
}

fn run_of(seconds: u64) -> Series {
    let mut series = Series::default();
    (0..seconds).for_each(|n| series.push(second(n)));
    series
}

#[test]
fn a_month_fits_and_nothing_is_lost_or_moved() {
    let month = 30 * 24 * 3600;
    let series = run_of(month);
    let kept: usize = LEVELS.iter().map(|(keep, _)| keep).sum();
    assert!(series.cells().count() <= kept);
    assert_eq!(
        series.cells().map(|cell| cell.counts.sent).sum::<u64>(),
        month
    );
    let mut at = Duration::ZERO;
    for cell in series.cells() {
        assert_eq!(cell.start, at);
        assert_eq!(
            cell.now.connected,
            cell.end().as_secs() - 1,
            "as it was at the end"
        );
        at = cell.end();
    }
}

#[test]
fn a_long_run_of_many_users_takes_little_memory() {
    let bytes = |series: &Series| -> usize {
        let cells = series.cells();
        cells
            .map(|cell| size_of::<Cell>() + cell.message.bytes())
            .sum()
    };
    // 2,000 messages a second, from 50 us to 100 ms.
    let mut totals = Latencies::default();
    (0..2000_u64).for_each(|n| totals.record(Duration::from_micros(50 + n * n / 40)));
    let message = Spread::of(&totals);
    let mut series = Series::default();
    let hours = [0, 1, 2, 3].map(|hour| {
        for n in 0..3600 {
            series.push(Cell {
                message: message.clone(),
                ..second(hour * 3600 + n)
            });
        }
        bytes(&series)
    });
    assert!(hours[3] < 3 << 20, "{hours:?}");
    let each_hour = hours[3] - hours[2];
    assert!(
        each_hour < 100_000,
        "{hours:?}: a day takes {each_hour} times 24 more"
    );
}

#[test]
fn longer_windows_end_together_whatever_a_run_missed() {
    let mut series = run_of(7);
    // The window of one second was not looked at in time.
    series.push(Cell {
        length: Duration::from_secs(2),
        ..second(7)
    });
    (9..20_000).for_each(|n| series.push(second(n)));
    for cell in series.cells().filter(|cell| cell.length.as_secs() > 2) {
        let length = cell.length.as_secs();
        assert!([10, 120].contains(&length), "{cell:?}");
        assert!(cell.start.as_secs().is_multiple_of(length), "{cell:?}");
    }
}

#[test]
fn the_latest_ten_minutes_are_kept_by_the_second() {
    let series = run_of(10_000);
    let seconds = series.cells().filter(|cell| cell.length.as_secs() == 1);
    assert!((590..=600).contains(&seconds.count()));
    let last = series.last(Duration::from_secs(30)).expect("old enough");
    assert_eq!((last.start.as_secs(), last.counts.sent), (9970, 30));
    assert!(run_of(20).last(Duration::from_secs(30)).is_none());
}

#[test]
fn shares_of_a_core_are_averaged_over_time() {
    let between = run_of(10).between(Duration::from_secs(2), Duration::from_secs(5));
    let cell = between.expect("not empty");
    assert_eq!(cell.counts.sent, 3);
    assert!((cell.now.generator_cpu_percent - 3.0).abs() < 1e-9);
}
