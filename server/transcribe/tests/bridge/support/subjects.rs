//! The four providers, each with what stands behind it.

use std::sync::{Arc, LazyLock};

use voicematch_transcribe::provider::{
    Provider, Secret, command::Command, gladia::Gladia, vosk::Vosk,
};

use super::{
    fake,
    gladia::{GladiaServer, KEY},
    server::{Faults, Plan},
    vosk::VoskServer,
};

/// A provider and the server behind it.
pub(crate) struct Subject {
    pub provider: Arc<dyn Provider>,
    pub vosk: Option<VoskServer>,
    pub gladia: Option<GladiaServer>,
}

/// What goes wrong, for each of the four in its own words.
#[derive(Clone, Default)]
pub(crate) struct Fault {
    pub fake: &'static str,
    pub program: &'static str,
    pub server: Vec<Faults>,
}

/// The interpreter itself: what is called `python3` may be a script that looks for it.
static PYTHON: LazyLock<String> = LazyLock::new(|| {
    let found = std::process::Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let found = found.expect("there is a python3");
    String::from_utf8_lossy(&found.stdout).trim().to_owned()
});

pub(crate) fn program(options: &str) -> String {
    let python = PYTHON.as_str();
    format!(
        "{python} -I {}/tests/bridge/support/recogniser.py {options}",
        env!("CARGO_MANIFEST_DIR")
    )
}

pub(crate) async fn subjects(fault: Fault) -> Vec<Subject> {
    let vosk = VoskServer::start(Plan::new(fault.server.clone())).await;
    let gladia = GladiaServer::start(Plan::new(fault.server)).await;
    let (vosk_url, gladia_url) = (vosk.url.clone(), gladia.url.clone());
    let key = Secret::new(KEY).expect("it is right");
    let of = |provider: Arc<dyn Provider>| Subject {
        provider,
        vosk: None,
        gladia: None,
    };
    vec![
        of(Arc::new(fake(fault.fake))),
        of(Arc::new(
            Command::parse(&program(fault.program)).expect("there is a python3"),
        )),
        Subject {
            vosk: Some(vosk),
            ..of(Arc::new(Vosk::parse(&vosk_url).expect("it is right")))
        },
        Subject {
            gladia: Some(gladia),
            ..of(Arc::new(
                Gladia::parse(&gladia_url, key).expect("it is right"),
            ))
        },
    ]
}

impl Subject {
    /// The other side has made no mistakes.
    pub(crate) fn check(&self) {
        let mistakes = [
            self.vosk.as_ref().map(|server| {
                server
                    .seen
                    .mistakes
                    .lock()
                    .expect("nobody panics with it")
                    .clone()
            }),
            self.gladia.as_ref().map(|server| {
                server
                    .state
                    .mistakes
                    .lock()
                    .expect("nobody panics with it")
                    .clone()
            }),
        ];
        let mistakes: Vec<_> = mistakes.into_iter().flatten().flatten().collect();
        assert_eq!(mistakes, Vec::<String>::new());
    }
}
