//! Changes a plan's number of users, pace, or length. Pure.

use std::time::Duration;

use super::{Load, Plan, PlanError};

impl Plan {
    /// The same plan with `users` at the most; ramps keep their pace.
    ///
    /// # Errors
    /// The plan has arrivals and no number of users.
    pub fn with_users(mut self, users: u32) -> Result<Self, PlanError> {
        let peak = self.steady_users();
        if peak == 0 {
            return Err(PlanError::NoUsers);
        }
        let scaled = |n: u32| {
            let scaled = u64::from(n) * u64::from(users) / u64::from(peak);
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        for phase in &mut self.phases {
            if let Load::Users { from, to } = &mut phase.load {
                if from != to {
                    phase.duration = phase.duration.mul_f64(f64::from(users) / f64::from(peak));
                }
                (*from, *to) = (scaled(*from), scaled(*to));
            }
        }
        Ok(self)
    }

    /// The same plan, with `spacing` between two users of each ramp.
    pub fn with_spacing(mut self, spacing: Duration) -> Self {
        for phase in &mut self.phases {
            if !phase.holds() {
                phase.duration = spacing.saturating_mul(phase.change());
            }
        }
        self
    }

    /// The same plan, where the phases that are no ramps take `duration` together.
    pub fn with_duration(mut self, duration: Duration) -> Self {
        let constant = self.phases.iter().filter(|phase| phase.holds());
        let together: Duration = constant.map(|phase| phase.duration).sum();
        if together.is_zero() {
            return self;
        }
        let factor = duration.as_secs_f64() / together.as_secs_f64();
        for phase in &mut self.phases {
            if phase.holds() {
                phase.duration = Duration::try_from_secs_f64(phase.duration.as_secs_f64() * factor)
                    .unwrap_or(Duration::MAX);
            }
        }
        self
    }

    /// The same plan, where the phases that are no ramps take `longest` together at the most.
    pub fn with_hold_of_at_most(self, longest: Duration) -> Self {
        let constant = self.phases.iter().filter(|phase| phase.holds());
        let together: Duration = constant.map(|phase| phase.duration).sum();
        self.with_duration(together.min(longest))
    }

    /// The same plan, which ends as soon as one of its thresholds can no longer hold.
    pub fn ending_when_hopeless(mut self) -> Self {
        let half_way = (self.ramp() + self.end()) / 2;
        let thresholds = self.thresholds_or_defaults().into_iter();
        self.thresholds = thresholds
            .map(|threshold| threshold.ending_the_run(half_way))
            .collect();
        self
    }

    /// The same plan with `rate` arrivals a second at the most.
    ///
    /// # Errors
    /// The plan has no arrivals.
    pub fn with_arrival_rate(mut self, rate: f64) -> Result<Self, PlanError> {
        let most = self.phases.iter().map(|phase| match phase.load {
            Load::Arrivals { from, to } => from.max(to),
            Load::Users { .. } => 0.0,
        });
        let most = most.fold(0.0, f64::max);
        if most <= 0.0 {
            return Err(PlanError::NoArrivals);
        }
        for phase in &mut self.phases {
            if let Load::Arrivals { from, to } = &mut phase.load {
                (*from, *to) = (*from * rate / most, *to * rate / most);
            }
        }
        Ok(self)
    }
}
