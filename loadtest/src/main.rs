//! `loadtest`: the command line's program.

fn main() -> std::process::ExitCode {
    loadtest::main()
}
