//! `image-builder`: see the library's documentation.

#![forbid(unsafe_code)]

mod console;
mod keys_console;
mod progress;
mod repo_console;

fn main() -> std::process::ExitCode {
    console::run()
}
