//! A server under test: started by its command, asked whether it is well, ended when it is no longer needed.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Problem, interrupt, machine::Places};

/// How long a server may take until `/health` answers, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read: a CPU profile of many threads is smaller.
const MAX_ANSWER: u64 = 64 << 20;
/// Lines of its log that are shown when it fails.
const LAST_WORDS: usize = 8;
/// Bytes of it in which they are looked for.
const LOG_END: usize = 8 << 10;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// What it writes; a file without a name, so that nothing is left behind.
    log: File,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Server {
    /// Runs `command`, with `{port}` and `{admin}` in it replaced by free ports, and waits until it is well.
    pub(crate) fn start(command: &str, places: &Places) -> Result<Self, Problem> {
        if !command.contains("{port}") {
            return Err(Problem::new(format!(
                "the command '{command}' must say {{port}} where the port to listen on belongs"
            )));
        }
        let (port, admin) = (free_port()?, free_port()?);
        let has_admin = command.contains("{admin}");
        let command_line = command
            .replace("{port}", &port.to_string())
            .replace("{admin}", &admin.to_string());
        let words = words(&command_line)?;
        let Some((program, args)) = words.split_first() else {
            return Err(Problem::new("the command is empty"));
        };
        let log = nameless_file(port);
        let handles = log.and_then(|log| Ok((log.try_clone()?, log.try_clone()?, log)));
        let (out, err, log) = handles.map_err(|error| {
            let directory = std::env::temp_dir();
            Problem::new(format!("cannot write to {}: {error}", directory.display()))
        })?;
        let mut start = Command::new(program);
        start
            .args(args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let child = places.on_server_cpus(|| start.spawn())?.map_err(|error| {
            Problem::new(format!(
                "cannot start {program}: {error}; is it built (cargo build --release)?"
            ))
        })?;
        interrupt::guard(child.id());
        let mut server = Self {
            child,
            log,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            admin: has_admin.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, admin))),
        };
        server.wait_until_well(command)?;
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its metrics and profiles are.
    pub(crate) fn admin(&self) -> Result<SocketAddr, Problem> {
        let why = "the server's command must say {admin} where the port of its metrics belongs";
        self.admin.ok_or_else(|| Problem::new(why))
    }

    /// What it wrote last.
    pub(crate) fn last_words(&self) -> String {
        let size = self.log.metadata().map_or(0, |log| log.len());
        let mut log = vec![0; LOG_END];
        let from = size.saturating_sub(LOG_END as u64);
        let read = self.log.read_at(&mut log, from).unwrap_or(0);
        let log = String::from_utf8_lossy(&log[..read]);
        let lines: Vec<_> = log.lines().rev().take(LAST_WORDS).collect();
        let lines: Vec<_> = lines
            .into_iter()
            .rev()
            .map(|line| format!("    {line}\n"))
            .collect();
        match lines.concat() {
            none if none.is_empty() => "it wrote nothing".into(),
            some => format!("it wrote:\n{some}"),
        }
    }

    fn wait_until_well(&mut self, command: &str) -> Result<(), Problem> {
        let until = Instant::now() + PATIENCE;
        let what = loop {
            if get(self.address, "/health", Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                break format!("ended at once ({status})");
            }
            if Instant::now() > until {
                break format!(
                    "did not answer GET /health with 200 in {} s",
                    PATIENCE.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(20));
        };
        let said = self.last_words();
        Err(Problem::new(format!("'{command}' {what}; {said}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| matches!(self.child.try_wait(), Ok(None))) {
            // Nobody is connected any more, so there is nothing that it could wait for.
            let _ = kill_process(pid, Signal::TERM);
            let until = Instant::now() + PATIENCE / 4;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
        }
        interrupt::unguard();
        let _ = self.child.wait();
    }
}

/// A new file that only its handles know.
fn nameless_file(port: u16) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("voicematch-bench-{}-{port}", std::process::id()));
    let file = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn free_port() -> Result<u16, Problem> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
    let bound = bound.map_err(|error| Problem::new(format!("no free port: {error}")))?;
    Ok(bound.port())
}

/// Asks for `path`; the answer must be 200 and come within `patience`. Returns the bytes after the status.
pub(crate) fn get(address: SocketAddr, path: &str, patience: Duration) -> io::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    // Everything is read, so that the connection ends with a FIN and not a reset.
    let size = io::copy(&mut stream.take(MAX_ANSWER), &mut io::sink())?;
    if &status != b"HTTP/1.1 200" {
        let status = String::from_utf8_lossy(&status).into_owned();
        return Err(io::Error::other(status));
    }
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

/// Sends JSON to `path`; the answer must be 2xx. Returns its body.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap_or(0);
    if !answer.starts_with(b"HTTP/1.1 2") {
        let answer = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        return Err(io::Error::other(answer));
    }
    Ok(answer.split_off(end + 4))
}

/// Splits a command as a shell does, with single and double quotes and nothing else.
fn words(command: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(Problem::new(format!(
            "the command '{command}' has a {open} that is never closed"
        )));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Cli, Common};

    fn anywhere() -> Common {
        Cli::parse_from(["bench", "--no-pin"]).compare.common
    }

    #[test]
    fn a_command_is_split_into_words() {
        let split = |command| words(command).map_err(|problem| problem.to_string());
        let expected: Vec<String> = ["a", "b c", "", "d\"e", "--x=y z"].map(String::from).into();
        assert_eq!(split("  a 'b c'  \"\" 'd\"e' --x=\"y z\" "), Ok(expected));
        assert_eq!(split(""), Ok(vec![]));
        assert!(split("a 'b").is_err_and(|words| words.contains("never closed")));
    }

    #[test]
    fn a_command_without_a_port_is_refused() {
        let places = Places::choose(&anywhere()).expect("nothing to change");
        let refused = Server::start("true", &places).map(|_| ());
        assert!(refused.is_err_and(|problem| problem.to_string().contains("{port}")));
    }

    #[test]
    fn a_server_that_fails_is_quoted() {
        let places = Places::choose(&anywhere()).expect("nothing to change");
        let failed = Server::start("sh -c 'echo out of luck {port}; exit 3'", &places).map(|_| ());
        let words = failed.map_or_else(|problem| problem.to_string(), |()| String::new());
        assert!(
            words.contains("ended at once") && words.contains("out of luck"),
            "{words}"
        );
    }
}
