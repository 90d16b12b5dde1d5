//! Everything that can go wrong before a server serves: keys, certificates, files, addresses.

use std::sync::Arc;

use voicematch_core::{matchmaker::PoolKind, metrics::Metrics};

use super::{Server, error::ServerError};
#[cfg(feature = "transcribe")]
use crate::transcribe;
use crate::{
    admin,
    admission::auth::Auth,
    config::Config,
    events::Events,
    hand_over::{self, HandOver},
    listen::{self, Address, activated, certificate::Certificate},
    report, room_key, trace,
};

/// The flags of the two kinds of addresses.
const LISTEN: &str = "--listen";
const ADMIN_LISTEN: &str = "--admin-listen";
const HAND_OVER: &str = "--hand-over";

impl Server {
    /// Binds all addresses, or takes them over from the server that runs. From now on the kernel queues connections;
    /// [`Self::run`] accepts them.
    pub fn bind(config: Config) -> Result<Self, ServerError> {
        let (mut keys, key_source) =
            room_key::load(&config.room_key).map_err(ServerError::RoomKey)?;
        let metrics = Arc::new(Metrics::new(config.workers, &PoolKind::LABELS)?);
        let auth = Auth::load(config.auth.clone(), config.session.rate, &metrics);
        let auth = auth.map_err(ServerError::TokenKeys)?;
        let events = config.events.clone();
        let events = events.map(|events| Events::new(events, &metrics));
        let events = events.transpose().map_err(ServerError::Events)?;
        let certificate = config.tls.clone().map(Certificate::load).transpose();
        let certificate = certificate.map_err(ServerError::Certificate)?;
        #[cfg(feature = "transcribe")]
        let transcription = (config.transcribe.clone())
            .map(|config| transcribe::Running::start(config, &keys.present, &metrics))
            .transpose()
            .map_err(ServerError::Transcription)?;
        // Last, as the other server waits for this one from now on.
        let mut inherited = match &config.hand_over {
            Some(path) => hand_over::ask(path).map_err(|error| ServerError::HandOver {
                path: path.clone(),
                error,
            })?,
            None => None,
        };
        let mut bind = |address: &Address, flag| {
            let inherited = inherited.as_mut().and_then(|old| old.take(flag, address));
            let bound = inherited.unwrap_or_else(|| listen::bind(address, config.unix_socket_mode));
            bound.map_err(|error| ServerError::Bind {
                address: address.clone(),
                flag,
                error,
            })
        };
        let public = config.listen.iter();
        let public: Result<Vec<_>, _> = public.map(|address| bind(address, LISTEN)).collect();
        let public = public?;
        let admin = bind(&config.admin_listen, ADMIN_LISTEN)?;
        let access = admin::Access::new(config.support.clone(), admin.address());
        let access = access.map_err(ServerError::AdminToken)?;
        if let Some(inherited) = &mut inherited {
            inherited.give_up_rest();
            if let Some(secret) = inherited.take_room_key() {
                room_key::inherit(&mut keys, key_source, secret);
            }
        }
        let room_key =
            (key_source == room_key::Source::Memory).then(|| keys.present.secret().to_vec());
        let hand_over = config.hand_over.as_deref().map(|path| {
            let public = public.iter().map(|bound| (LISTEN, bound));
            let bound = public.chain([(ADMIN_LISTEN, &admin)]);
            let hand_over = HandOver::new(path, inherited.is_some(), bound, room_key);
            hand_over.map_err(|error| ServerError::Bind {
                address: Address::Unix(path.to_owned()),
                flag: HAND_OVER,
                error,
            })
        });
        let hand_over = hand_over.transpose()?;
        for name in activated::unused() {
            tracing::warn!(%name, "systemd has passed a socket that no flag names: give --listen systemd:NAME");
        }
        let started = trace::start(config.traces.as_ref(), &metrics);
        let (tracer, spans) = started.map_err(ServerError::Telling)?;
        let reports = report::start(config.reports.clone(), &metrics);
        let reports = reports.map_err(ServerError::Telling)?;
        Ok(Self {
            config,
            public,
            admin,
            access,
            keys,
            key_source,
            auth,
            events,
            metrics,
            certificate,
            inherited,
            hand_over,
            tracer,
            spans,
            reports,
            #[cfg(feature = "transcribe")]
            transcription,
        })
    }
}
