//! What is looked after while a server serves: files, keys, configuration, memory.

use std::sync::Arc;

use tokio::sync::mpsc;
use voicematch_core::{
    metrics::Metrics,
    session::{Context, close_log},
};

use crate::{
    admission::{auth::Auth, limits::Admission, make_room::MakeRoom},
    config::Config,
    files,
    http::Public,
    listen::certificate::Certificate,
    shed,
    workers::every,
};

/// What is looked after.
pub(super) struct Upkeep {
    pub(super) context: Arc<Context>,
    pub(super) admission: Arc<Admission>,
    pub(super) shared: Arc<Public>,
    pub(super) make_room: MakeRoom,
    pub(super) auth: Option<Arc<Auth>>,
    pub(super) certificate: Option<Certificate>,
}

impl Upkeep {
    /// Does not return. What can be changed while the server runs is what the latest of `reloads` says.
    pub(super) async fn run(self, mut reloads: mpsc::UnboundedReceiver<Config>) {
        tokio::join!(
            every(files::CHECK, || {
                self.certificate.iter().for_each(Certificate::reload);
            }),
            every(close_log::INTERVAL, || self.context.close_log.sum_up()),
            async {
                if let Some(auth) = &self.auth {
                    auth.keep().await;
                }
            },
            async {
                while let Some(config) = reloads.recv().await {
                    self.apply(config);
                }
            },
            shed::watch(&self.context, &self.make_room)
        );
    }

    fn apply(&self, config: Config) {
        let (context, admission, shared) = (&self.context, &self.admission, &self.shared);
        show_limits(&context.metrics, &config);
        admission
            .guard()
            .set_per_minute(config.reconnects_per_minute);
        let rate = config.session.rate;
        let changed = [
            shared.settings.replace(config.settings()),
            context.matchmaker.config().replace(config.matchmaker),
            admission.config().replace(config.limits),
            context.config.replace(config.session),
            self.auth.as_ref().is_none_or(|auth| auth.reload(rate)),
        ];
        if changed.contains(&false) {
            tracing::error!(
                "SIGHUP: some settings were changed too often; only a restart changes them"
            );
        }
        self.certificate.iter().for_each(Certificate::reload);
        #[cfg(feature = "transcribe")]
        if let Some(transcribe) = &shared.transcribe {
            transcribe.reload_key();
        }
    }
}

/// Shows the limits that a reload can change.
pub(super) fn show_limits(metrics: &Metrics, config: &Config) {
    metrics.limit("max_connections", config.limits.max_connections);
    metrics.limit("max_detached", config.session.resume.max_detached);
    metrics.limit("outbox_messages", config.session.outbox.messages as usize);
    metrics.limit("outbox_bytes", config.session.outbox.bytes as usize);
}
