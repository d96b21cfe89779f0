//! A signal as a wish: the first lets the step at hand end, the second ends the process at once. Output that cannot be
//! written is such a wish, too.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::SIGTERM;
use signal_hook::flag;

use crate::cli::printer::Printer;
use crate::signals;

/// Whether the process was asked to end.
#[derive(Clone, Debug)]
pub(super) struct StopSignal(Arc<AtomicUsize>);

/// What shells report of a process that a signal ended: this and the signal's number.
const SIGNALLED: u8 = 128;

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn listen() -> io::Result<Self> {
        let (asked, which) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for signal in signals::asking() {
            // In this order: a signal that finds `asked` set by an earlier one ends the process.
            flag::register_conditional_shutdown(signal, i32::from(SIGNALLED) + signal, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            flag::register_usize(signal, Arc::clone(&which), signal as usize)?;
        }
        Ok(Self(which))
    }

    /// Whether a signal came, or nobody reads what is printed any more.
    pub(super) fn asked(&self, printer: &Printer) -> bool {
        self.came() || printer.lost().is_some()
    }

    /// Whether a signal came.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The exit code that names the signal; without one, SIGTERM's.
    pub(super) fn code(&self) -> u8 {
        let signal = match self.0.load(Ordering::Relaxed) {
            0 => SIGTERM as usize,
            signal => signal,
        };
        SIGNALLED + signal as u8
    }
}
