//! Signs of life of work whose end nobody knows: a clock on a terminal, a line now and then elsewhere.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Until the first line; each later one comes after twice the pause. What is shorter needs no sign.
pub(super) const FIRST: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(600);

/// Lines about work, until this is dropped.
pub struct Pulse {
    stop: Option<Sender<()>>,
    beat: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Tells how long the work has taken, for the first time after `first`.
    pub(super) fn new(what: String, first: Duration, tell: impl Fn(&str) + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        let began = Instant::now();
        let beat = move || {
            let mut pause = first;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                tell(&format!("{what}: {} s so far", began.elapsed().as_secs()));
                pause = (2 * pause).min(LONGEST);
            }
        };
        // Where no thread can be had, nothing is said.
        Self { stop: Some(stop), beat: std::thread::Builder::new().spawn(beat).ok() }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beat) = self.beat.take() {
            // It may have panicked, which its own message has told.
            let _ = beat.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_is_heard_of_until_it_ends() {
        let (told, heard) = mpsc::channel();
        let pulse = Pulse::new("reading".to_owned(), Duration::from_millis(10), move |line| {
            told.send(line.to_owned()).unwrap();
        });
        let wait = Duration::from_secs(60);
        assert_eq!(
            [heard.recv_timeout(wait), heard.recv_timeout(wait)],
            ["reading: 0 s so far"; 2].map(|line| Ok(line.to_owned()))
        );
        drop(pulse);
        // Nobody is left who could tell.
        while let Ok(line) = heard.recv() {
            assert!(line.starts_with("reading: "));
        }
    }

    #[test]
    fn short_work_is_silent() {
        let (told, heard) = mpsc::channel();
        drop(Pulse::new("reading".to_owned(), FIRST, move |line| told.send(line.to_owned()).unwrap()));
        assert!(heard.recv().is_err());
    }
}
