//! Latency near the server's maximum: alone, and while other things go on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::Serialize;

use crate::{
    Problem,
    clock::{SECOND, now},
    compare::write_json,
    figures::Quiet,
    machine::{Places, allow_open_files},
    options::Load,
    phases::Held,
    server::{Server, get},
    speakers::Speakers,
    stats::Spread,
    table::number,
    users::{Event, Users},
};

/// Visitors who are there at the same time, at the most.
const VISITORS: usize = 64;
/// Time between two readings of the metrics. Prometheus's own default is a minute, most take 15 s.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// How long an answer of the admin port may take beyond what was asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What goes on beside the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Beside {
    Nothing,
    Scrapes,
    Profile,
    Connects,
    Speakers,
}

impl Beside {
    const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Scrapes,
        Self::Profile,
        Self::Connects,
        Self::Speakers,
    ];

    /// Those that were asked for.
    fn wanted(options: &Load) -> impl Iterator<Item = Self> {
        let speakers = options.speakers > 0;
        Self::ALL
            .into_iter()
            .filter(move |beside| speakers || *beside != Self::Speakers)
    }

    fn describe(self, options: &Load) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Scrapes => format!("/metrics every {} s", SCRAPE_EVERY.as_secs()),
            Self::Profile => "a CPU profile all the time".into(),
            Self::Connects => format!("{} connects a second", options.connects),
            Self::Speakers => format!("{} speakers are transcribed", options.speakers),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    /// `None`: the baseline, left alone.
    beside: Option<Beside>,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    server_percent: f64,
    lost: u64,
    #[serde(flatten)]
    quiet: Quiet,
}

#[derive(Serialize)]
struct Report<'a> {
    options: &'a Load,
    places: String,
    repetitions: &'a [Measured],
}

/// Measures, prints, writes the JSON.
pub(crate) fn run(options: &Load) -> Result<(), Problem> {
    allow_open_files(options.users + VISITORS.max(options.speakers.into()))?;
    let places = Places::choose(&options.common)?;
    let mut all = Vec::new();
    for nth in 1..=options.common.reps {
        let from = all.len();
        let server = Server::start(&options.common.server, &places)?;
        let mut held = hold(&server, options, &places)?;
        let closed = held.closed_loop(1, options.seconds)?;
        let most = closed.delivered as f64 / closed.window.seconds();
        let rate = most * f64::from(options.share) / 100.0;
        for beside in Beside::wanted(options) {
            all.push(one(&server, &mut held, beside, rate, options, &places)?);
        }
        held.leave()?;
        drop(server);
        if let Some(command) = &options.baseline {
            let server = Server::start(command, &places)?;
            let mut held = hold(&server, options, &places)?;
            let alone = one(&server, &mut held, Beside::Nothing, rate, options, &places)?;
            all.push(Measured {
                beside: None,
                ..alone
            });
            held.leave()?;
        }
        let p99s: Vec<_> = all[from..].iter().map(|m| number(m.p99_us)).collect();
        eprintln!(
            "{nth}/{}: {} of {} messages/s, p99 us: {}",
            options.common.reps,
            number(rate),
            number(most),
            p99s.join(", ")
        );
    }
    print!("{}", render(&all, options, &places));
    let report = Report {
        options,
        places: places.describe(),
        repetitions: &all,
    };
    write_json(options.common.json.as_deref(), &report)
}

/// Everybody is connected, matched and known to their partner.
fn hold<'a>(server: &'a Server, options: &Load, places: &Places) -> Result<Held<'a>, Problem> {
    let common = &options.common;
    let mut held = Held::new(server, options.users, common.payload_bytes, places.apart())?;
    held.connect()?;
    held.match_all()?;
    held.meet()?;
    held.rest(common.settle)?;
    Ok(held)
}

fn one(
    server: &Server,
    held: &mut Held<'_>,
    beside: Beside,
    rate: f64,
    options: &Load,
    places: &Places,
) -> Result<Measured, Problem> {
    let mut visitors = match beside {
        Beside::Connects => Some(Visitors::new(server.address, options, places)?),
        _ => None,
    };
    let watcher = match beside {
        Beside::Scrapes | Beside::Profile => Some(Watcher::start(server, beside, options)?),
        _ => None,
    };
    let mut speakers = match beside {
        Beside::Speakers => Some(Speakers::new(server, options.speakers.into(), places)?),
        _ => None,
    };
    let open = held.open_loop(rate, options.seconds, || {
        match (&mut visitors, &mut speakers) {
            (Some(visitors), _) => visitors.come_and_go(),
            (_, Some(speakers)) => speakers.talk(),
            _ => Ok(()),
        }
    })?;
    if let Some(speakers) = speakers {
        speakers.check()?;
    }
    if let Some(visitors) = visitors {
        visitors.check(options)?;
    }
    if let Some(watcher) = watcher {
        watcher.end()?;
    }
    Ok(Measured {
        beside: Some(beside),
        rate,
        p50_us: open.typical_latency_us(50.0),
        p99_us: open.typical_latency_us(99.0),
        server_percent: open.window.server_percent(),
        lost: open.lost,
        quiet: Quiet::of(&open.window),
    })
}

fn render(all: &[Measured], options: &Load, places: &Places) -> String {
    let rows = Beside::ALL.map(Some).into_iter().chain([None]);
    let alone = spread(all, Some(Beside::Nothing), |m| m.p99_us);
    let mut out = format!(
        "{} users, open loop at {} % of the server's own maximum; {}; medians of {} repetitions\n\n\
         {:<32}{:>10}{:>10}{:>10}{:>12}{:>9}\n",
        options.users,
        options.share,
        places.describe(),
        options.common.reps,
        "beside it",
        "rate/s",
        "p50 us",
        "p99 us",
        "p99 / alone",
        "CPU %",
    );
    for beside in rows {
        let column = |get| spread(all, beside, get).map(|spread| spread.median);
        let (Some(p99), Some(alone)) = (column(|m| m.p99_us), alone) else {
            continue;
        };
        let name = beside.map_or("(the baseline, alone)".into(), |b| b.describe(options));
        let figures = [
            column(|m| m.rate),
            column(|m| m.p50_us),
            Some(p99),
            Some(p99 / alone.median),
            column(|m| m.server_percent),
        ];
        let [rate, p50, p99, ratio, cpu] = figures.map(|f| number(f.unwrap_or_default()));
        out += &format!("{name:<32}{rate:>10}{p50:>10}{p99:>10}{ratio:>12}{cpu:>9}\n");
    }
    out
}

/// Of the repetitions that were not disturbed, or of all if there is no other.
fn spread(all: &[Measured], beside: Option<Beside>, get: fn(&Measured) -> f64) -> Option<Spread> {
    let here = || all.iter().filter(|m| m.beside == beside);
    let calm: Vec<_> = here().filter(|m| !m.quiet.disturbed).map(get).collect();
    Spread::of(&calm).or_else(|| Spread::of(&here().map(get).collect::<Vec<_>>()))
}

/// Users who come, are greeted, and leave.
struct Visitors {
    users: Users,
    free: Vec<usize>,
    gap: u64,
    due: u64,
    begun: u64,
    came: u64,
    failed: u64,
}

impl Visitors {
    fn new(server: SocketAddr, options: &Load, places: &Places) -> Result<Self, Problem> {
        Ok(Self {
            users: Users::new(server, VISITORS, places.apart())?,
            free: (0..VISITORS).collect(),
            gap: SECOND / u64::from(options.connects),
            due: now(),
            begun: now(),
            came: 0,
            failed: 0,
        })
    }

    /// Lets in who is due, and sees to who is there.
    fn come_and_go(&mut self) -> Result<(), Problem> {
        if now() >= self.due
            && let Some(slot) = self.free.pop()
        {
            self.users.connect(slot)?;
            self.due += self.gap;
            self.came += 1;
        }
        let (free, failed) = (&mut self.free, &mut self.failed);
        self.users
            .wait(Duration::ZERO, |users, slot, event| match event {
                Event::Text(_) => users.close(slot),
                Event::Closed { in_order } => {
                    *failed += u64::from(!in_order);
                    free.push(slot);
                }
            })
    }

    /// Whether as many came as were to come.
    fn check(&self, options: &Load) -> Result<(), Problem> {
        let wanted = (now() - self.begun) / self.gap.max(1);
        if self.failed > 0 || self.came < wanted / 10 * 9 {
            return Err(Problem::new(format!(
                "of {wanted} visitors {} came and {} were hung up on: ask for fewer --connects than {}",
                self.came, self.failed, options.connects
            )));
        }
        Ok(())
    }
}

/// Somebody who reads the admin port.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<u32>>,
}

impl Watcher {
    fn start(server: &Server, beside: Beside, options: &Load) -> Result<Self, Problem> {
        let admin = server.admin()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seconds = options.seconds.ceil();
        let watching = {
            let stop = stop.clone();
            move || {
                let mut read = 0;
                if beside == Beside::Profile {
                    let path = format!("/debug/pprof/profile?seconds={seconds}");
                    get(admin, &path, PATIENCE + Duration::from_secs_f64(seconds))?;
                    return Ok(1);
                }
                while !stop.load(Relaxed) {
                    get(admin, "/metrics", PATIENCE)?;
                    read += 1;
                    thread::sleep(SCRAPE_EVERY);
                }
                Ok(read)
            }
        };
        let thread = thread::spawn(watching);
        Ok(Self { stop, thread })
    }

    /// Waits until the last answer is there; at least one must be.
    fn end(self) -> Result<(), Problem> {
        self.stop.store(true, Relaxed);
        match self.thread.join() {
            Ok(Ok(read)) if read > 0 => Ok(()),
            Ok(Ok(_)) => Err(Problem::new("the admin port was never read")),
            Ok(Err(error)) => Err(Problem::new(format!("the admin port: {error}"))),
            Err(_) => Err(Problem::new("the reader of the admin port panicked")),
        }
    }
}
