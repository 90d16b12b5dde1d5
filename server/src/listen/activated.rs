//! Sockets that systemd has opened for this program: socket activation (sd_listen_fds(3)).

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use listenfd::ListenFd;
use socket2::Socket;

/// Those that nobody has taken yet.
static PASSED: Mutex<Option<Passed>> = Mutex::new(None);

struct Passed {
    sockets: ListenFd,
    /// `FileDescriptorName=` of each.
    names: Vec<String>,
}

/// Finds the sockets. To be called while the program has one thread: it changes the environment, so that no child takes
/// them for its own.
pub fn find() {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let sockets = ListenFd::from_env();
    let names = names.split(':').take(sockets.len());
    let names = names.map(str::to_owned).collect();
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    *passed = Some(Passed { sockets, names });
}

/// The names of those that nobody has taken: who connects there waits for ever.
pub fn unused() -> Vec<String> {
    let passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let names = passed.iter().flat_map(|passed| &passed.names);
    names.filter(|name| !name.is_empty()).cloned().collect()
}

/// Takes the socket of this name. It listens already.
pub(super) fn take(name: &str) -> io::Result<Socket> {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let found = passed.as_mut().and_then(|passed| {
        let place = passed.names.iter().position(|known| known == name)?;
        // The name is not free for another one.
        passed.names[place].clear();
        Some((place, &mut passed.sockets))
    });
    let Some((place, sockets)) = found else {
        return Err(io::Error::other(
            "systemd has passed no socket of this name; set FileDescriptorName= in the .socket unit, or listen at an address",
        ));
    };
    let gone = || io::Error::other("the socket was taken already");
    match sockets.take_tcp_listener(place) {
        Ok(listener) => Ok(listener.ok_or_else(gone)?.into()),
        Err(_) => {
            let listener = sockets.take_unix_listener(place)?;
            Ok(listener.ok_or_else(gone)?.into())
        }
    }
}
