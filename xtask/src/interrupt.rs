//! Ctrl-C and SIGTERM at any time. Every program that this one starts is tied to it (`qemu_tests::sandbox`), so that
//! ending is all that has to be done.

use anyhow::{Context as _, Result};
use contracts::exit::Code;
use std::io::Write as _;
use tokio::signal::unix::{SignalKind, signal};

/// From now on a signal ends this program with [`Code::Interrupted`].
pub(crate) fn end_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let wait_for = |kind| signal(kind).context("cannot wait for signals");
        (wait_for(SignalKind::interrupt())?, wait_for(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () };
        });
        let _ = writeln!(std::io::stderr(), "interrupted; what was running ends too, finished parts stay in the cache");
        std::process::exit(Code::Interrupted.number().into());
    });
    Ok(())
}
