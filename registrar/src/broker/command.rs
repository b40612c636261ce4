//! Clusters' own commands, bounded in time.

use super::BrokerError;
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// Runs a command to its end; gives what it printed. `what` names it in errors: without secrets, and short.
pub(super) async fn run(mut command: Command, what: &str, patience: Duration) -> Result<Vec<u8>, BrokerError> {
    let failed = |text: String| BrokerError::Unavailable(format!("{what}: {text}"));
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(patience, command.output()).await;
    let output = output.map_err(|_| failed(format!("no end in {} s", patience.as_secs())))?;
    let output = output.map_err(|error| failed(format!("{program} cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.trim().lines().next_back().unwrap_or("it failed without a word").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, patience: Duration) -> Result<Vec<u8>, BrokerError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, "sh", patience).await
    }

    #[tokio::test]
    async fn a_command_says_why_it_failed_and_does_not_hang() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("echo good", long).await.unwrap(), b"good\n");
        let said = |result: Result<Vec<u8>, BrokerError>| result.unwrap_err().to_string();
        assert!(said(shell("echo noise >&2; echo denied >&2; exit 3", long).await).ends_with("sh: denied"));
        assert!(said(shell("exit 1", long).await).contains("without a word"));
        assert!(said(shell("sleep 60", Duration::from_millis(100)).await).contains("no end"));
        let missing = run(Command::new("/nowhere/ceph"), "ceph", long).await;
        assert!(said(missing).contains("/nowhere/ceph cannot be started"));
    }
}
