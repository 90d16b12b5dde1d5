//! The course of the example run, second by second.

use super::{MINUTE, PHASES};
use crate::record::{Quantiles, Series, Window};

/// Normal noise, the same each time.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn uniform(&mut self) -> f64 {
        // Steele's splitmix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean 0 and variance 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Values of variance 1, each of which keeps the fraction `phi` of the one before.
    pub fn series(&mut self, n: usize, phi: f64) -> Vec<f64> {
        let mut last = self.normal();
        let step = (1.0 - phi * phi).sqrt();
        (0..n)
            .map(|_| {
                last = phi * last + step * self.normal();
                last
            })
            .collect()
    }
}

pub(super) fn series() -> Series {
    let mut noise = Noise::new(3);
    let wander = noise.series(540, 0.8);
    let heat_bounds_ms: Vec<f64> = (0..24)
        .map(|i| 0.25 * 2_f64.powf(f64::from(i) * 0.6))
        .collect();
    let mut before = 0;
    let windows = (0..540).map(|second| {
        let users = users_at(f64::from(second) * 1e3);
        let joined = users.saturating_sub(before);
        before = users;
        let load = users as f64 / 5000.0;
        let stall = if second == 432 { 1400.0 } else { 0.0 };
        let wander = 0.15 * wander[usize::try_from(second).unwrap_or(0)];
        let p50 = 0.4 + 1.2 * load.powi(3) * wander.exp();
        window(
            Scene {
                second,
                users,
                joined,
                p50,
                stall,
                noise: noise.normal(),
            },
            &heat_bounds_ms,
        )
    });
    let windows = windows.collect();
    Series {
        heat_bounds_ms,
        windows,
    }
}

struct Scene {
    second: u32,
    users: u64,
    joined: u64,
    p50: f64,
    stall: f64,
    noise: f64,
}

fn window(scene: Scene, bounds: &[f64]) -> Window {
    let Scene {
        second,
        users,
        joined,
        p50,
        stall,
        noise,
    } = scene;
    let spread = |middle: f64, more: f64| Quantiles {
        p50_ms: Some(middle + more * 0.35),
        p95_ms: Some(middle * (3.1 + 0.4 * noise.abs()) + more * 0.8),
        p99_ms: Some(middle * (7.0 + 2.0 * noise.abs()) + more * 0.95),
        max_ms: Some(middle * (16.0 + 9.0 * noise.abs()) + more),
    };
    let sent = users / 5;
    let centre = bounds.iter().position(|bound| *bound > p50).unwrap_or(0);
    let heat = (0..=bounds.len()).map(|bucket| {
        let off = bucket.abs_diff(centre);
        let tail = u64::from(bucket > centre) + 1;
        let stalled = u64::from(stall > 0.0 && bucket > 15 && bucket < 21) * 90;
        sent * tail / 4 / (1_u64 << (2 * off).min(40)) + stalled
    });
    Window {
        start_ms: f64::from(second) * 1e3,
        length_ms: 1e3,
        connected: users,
        searching: joined % 7,
        in_rooms: users - users % 2,
        attempts: joined,
        connects: joined,
        matches: joined - joined % 2,
        sent,
        delivered: sent - u64::from(stall > 0.0) * 40,
        answered: sent / 40,
        resumed: 0,
        errors: u64::from(stall > 0.0) * 31 + u64::from(second == 330) * 4,
        connect: if joined > 0 {
            spread(p50 * 0.8, 0.0)
        } else {
            Quantiles::default()
        },
        matching: if joined > 0 {
            spread(p50 * 9.0, 0.0)
        } else {
            Quantiles::default()
        },
        message: if second < 3 {
            Quantiles::default()
        } else {
            spread(p50, stall)
        },
        message_local: Quantiles::default(),
        message_remote: Quantiles::default(),
        call: if second < 3 {
            Quantiles::default()
        } else {
            spread(p50 * 0.7, stall)
        },
        own_lateness: spread(0.1, stall * 0.01),
        heat: if second < 3 { vec![] } else { heat.collect() },
        server_cpu_percent: Some((users as f64 / 48.0 + 3.0 * noise).max(0.4)),
        server_rss_bytes: Some(11_000_000 + users * 5_000 + u64::from(second) * 9_000),
        server_fds: Some(18 + users),
        server_queue: Some(users / 50),
        server_spill_bytes: Some(u64::from(stall > 0.0) * 48_000),
        generator_cpu_percent: (users as f64 / 62.0 + 2.0 * noise).max(0.5),
        generator_rss_bytes: 22_000_000 + users * 7_800,
    }
}

fn users_at(ms: f64) -> u64 {
    let phase = PHASES.iter().find(|(_, [_, end], _)| ms < end * MINUTE);
    phase.map_or(5000, |(_, [start, end], [from, to])| {
        let fraction = (ms / MINUTE - start) / (end - start);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and not negative"
        )]
        let joined = ((to - from) as f64 * fraction) as u64;
        from + joined
    })
}
