//! The store service's program. See the library for what it does.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    netboot::cli::main()
}
