//! A machine of its own for one server: a network namespace with two links to this one, one for users and one for the engine.

use std::{
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{TestServer, server::binary};

/// Taken down when it is dropped.
pub(crate) struct Machine {
    name: String,
    /// This machine's address on the link to the engine.
    pub(crate) engine: String,
    /// Its own on the link to the users.
    users: String,
}

/// The link to the engine, as this machine names it.
fn link(name: &str) -> String {
    format!("{name}e")
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("Debian's package iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {error}");
}

impl Machine {
    /// `None`: only root may make networks.
    pub(crate) fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // A block of eight addresses of those that are for tests of networks (RFC 2544, section C.2.2).
        let block = (process::id() * 4 + count) % (1 << 14) * 8;
        let address = |at: u32| {
            let at = block + at;
            format!("198.{}.{}.{}", 18 + (at >> 16), at >> 8 & 0xff, at & 0xff)
        };
        let machine = Self {
            name: format!("vm{}x{count}", process::id()),
            engine: address(5),
            users: address(2),
        };
        let name = &machine.name;
        ip(&format!("netns add {name}"));
        for (end, here, there) in [
            (format!("{name}u"), address(1), address(2)),
            (link(name), address(5), address(6)),
        ] {
            ip(&format!(
                "link add {end} type veth peer name {end}p netns {name}"
            ));
            ip(&format!("addr add {here}/30 dev {end}"));
            ip(&format!("link set {end} up"));
            ip(&format!("-n {name} addr add {there}/30 dev {end}p"));
            ip(&format!("-n {name} link set {end}p up"));
        }
        Some(machine)
    }

    /// A server that runs there.
    pub(crate) async fn server(&self, flags: &[&str]) -> TestServer {
        let mut command = Command::new("ip");
        let program = binary();
        command.args(["netns", "exec", &self.name]);
        command.arg(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let address = format!("{}:0", self.users);
        command.args(["--listen", &address, "--admin-listen", &address]);
        command.args(flags);
        TestServer::listening_at(command).await
    }

    /// Nothing comes from the engine, or goes there, from now on.
    pub(crate) fn cut(&self) {
        ip(&format!("link set {} down", link(&self.name)));
    }

    /// All is as before.
    pub(crate) fn heal(&self) {
        ip(&format!("link set {} up", link(&self.name)));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its links go with it. If this fails the test has failed already.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}
