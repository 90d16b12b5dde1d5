//! A time of day of its own for a process, which a test sets while it runs.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

/// A library for `LD_PRELOAD`. (libfaketime and the server's allocator do not get along.) What measures time that has passed is left
/// alone, as clocks of machines that are set leave it.
const SOURCE: &str = r"
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/time.h>
    #include <time.h>
    #include <unistd.h>
    static const volatile long *ahead = MAP_FAILED;
    __attribute__((constructor)) static void look(void) {
        ahead = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, open(AHEAD, O_RDONLY | O_CLOEXEC), 0);
    }
    int clock_gettime(clockid_t id, struct timespec *time) {
        long failed = syscall(SYS_clock_gettime, id, time);
        if (!failed && id == CLOCK_REALTIME && ahead != MAP_FAILED) time->tv_sec += *ahead;
        return failed;
    }
    int gettimeofday(struct timeval *restrict time, void *restrict zone) {
        struct timespec now;
        (void)zone;
        if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
        time->tv_sec = now.tv_sec;
        time->tv_usec = now.tv_nsec / 1000;
        return 0;
    }";

pub(crate) struct Clock {
    folder: TempDir,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let clock = Self {
            folder: TempDir::new().unwrap(),
        };
        clock.is_ahead(0);
        fs::write(clock.file("clock.c"), SOURCE).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC"])
            .arg(format!("-DAHEAD=\"{}\"", clock.file("ahead").display()))
            .arg("-o")
            .args([clock.library(), clock.file("clock.c")])
            .status();
        assert!(built.unwrap().success());
        clock
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.file("clock.so")
    }

    /// Sets it so many hours ahead of the right time.
    pub(crate) fn is_ahead(&self, hours: i64) {
        let seconds = (hours * 3600).to_ne_bytes();
        // Mapped by the process: the file must never be shorter.
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.file("ahead"));
        std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &seconds, 0).unwrap();
    }
}
