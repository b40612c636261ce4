//! Thin entry point; see the crate's documentation.

fn main() -> std::process::ExitCode {
    firstboot_agent::cli::main()
}
