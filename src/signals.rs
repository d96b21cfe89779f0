//! The signals that ask a process to end. SIGHUP does, unless whoever started the process has it ignored, as nohup(1) does
//! for what is to outlive its terminal.

use signal_hook::consts::{SIGINT, SIGTERM};

/// What ends every command.
#[cfg(unix)]
pub(crate) fn ending() -> Vec<i32> {
    let mut signals = vec![SIGINT, SIGTERM];
    if !hangup_is_ignored() {
        signals.push(signal_hook::consts::SIGHUP);
    }
    signals
}

/// What asks a command to end that can go on later: Slurm's `--signal` sends SIGUSR1 by custom, some time before a job's
/// time is up.
#[cfg(unix)]
pub(crate) fn asking() -> Vec<i32> {
    [ending(), vec![signal_hook::consts::SIGUSR1]].concat()
}

/// Elsewhere there are two.
#[cfg(not(unix))]
pub(crate) fn asking() -> Vec<i32> {
    vec![SIGINT, SIGTERM]
}

#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    // SAFETY: without a new action, sigaction(2) writes the present one and does nothing else; all of it may be zero.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}
