//! SIGINT, SIGTERM and SIGHUP end a command: what it has not finished is removed first. Training has a way of its own,
//! which ends with a checkpoint.

use std::io;

/// Listens from now on, in a thread of its own.
///
/// # Errors
/// The operating system's.
#[cfg(unix)]
pub(super) fn listen() -> io::Result<()> {
    use ftk_adapters::staged::abandon;
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    use crate::signals;

    let mut signals = Signals::new(signals::ending())?;
    // It does nothing that takes more.
    let thread = std::thread::Builder::new().name("signals".to_owned()).stack_size(256 << 10);
    thread.spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Whoever waits for the process sees that the signal ended it, as if nobody had listened.
            abandon(|| drop(emulate_default_handler(signal)));
        }
    })?;
    Ok(())
}

/// Elsewhere the process ends at once, and the next one sweeps out what it left.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(super) fn listen() -> io::Result<()> {
    Ok(())
}
