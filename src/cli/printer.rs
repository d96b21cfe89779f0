//! All output goes through here.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ftk_adapters::hint::{self, HintOf};
use ftk_text::TextError;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::foreign;
use super::working::{FIRST, Pulse};
use crate::commands::Advice;
use crate::device::DeviceError;
use crate::prove;
use crate::train::TrainError;

/// Errors that may know what to do about them: those of each crate, and of each part of this one.
const HINTS: &[&[HintOf]] = &[
    ftk_adapters::HINTS,
    ftk_recipes::HINTS,
    ftk_gnn::HINTS,
    ftk_defi::HINTS,
    ftk_bases::HINTS,
    &[hint::of::<TextError>, hint::of::<TrainError>, hint::of::<DeviceError>, hint::of::<Advice>],
    prove::HINTS,
];

/// Where a command's words go, and whether they arrived. Writing never fails here and never ends the process: what
/// becomes of lost output is decided once, with the exit code.
#[derive(Debug)]
pub struct Printer {
    json: bool,
    quiet: bool,
    /// The first failure to write to stdout.
    lost: OnceLock<io::Error>,
    /// The clock on the terminal that words must not run into.
    clock: Mutex<Option<ProgressBar>>,
    /// Objects that are kept for whoever prints one of several.
    held: Mutex<Option<Map<String, Value>>>,
}

impl Printer {
    /// With `json`, stdout carries JSON only; with `quiet`, stderr carries errors only.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, lost: OnceLock::new(), clock: Mutex::new(None), held: Mutex::new(None) }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Why stdout could not be written to, if it could not. Nothing is written there from then on.
    pub fn lost(&self) -> Option<&io::Error> {
        self.lost.get()
    }

    /// One line of data for a person: stdout, unless JSON was asked for. A line of foreign text stays one, and is cut
    /// where it is long.
    pub fn line(&self, text: &str) {
        if !self.json {
            self.stdout(&foreign::line(text), "\n");
        }
    }

    /// Data for a person that may have several lines, in full.
    pub fn text(&self, text: &str) {
        if !self.json {
            self.stdout(&foreign::lines(text), "\n");
        }
    }

    /// Data for a person that does not end its line.
    pub fn part(&self, text: &str) {
        if !self.json {
            self.stdout(&foreign::lines(text), "");
        }
    }

    /// Text for a person in stretches that are marked or not: green and the rest dim where stdout is a terminal and
    /// NO_COLOR does not forbid it, elsewhere double brackets.
    pub fn marked(&self, parts: &[(String, bool)]) {
        if !self.json {
            let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            self.stdout(&marked(parts, !forbidden && io::stdout().is_terminal()), "\n");
        }
    }

    /// The same data for a program: stdout, if JSON was asked for.
    pub fn object(&self, value: &Value) {
        if !self.json {
            return;
        }
        match (&mut *self.held(), value) {
            (Some(held), Value::Object(value)) => held.extend(value.clone()),
            _ => self.stdout(&foreign::json(&value.to_string()), "\n"),
        }
    }

    /// Does a part of a command whose objects are not printed but kept, as one, for the command's own.
    pub fn holding<T>(&self, part: impl FnOnce() -> T) -> (T, Map<String, Value>) {
        *self.held() = Some(Map::new());
        let done = part();
        (done, self.held().take().unwrap_or_default())
    }

    fn held(&self) -> MutexGuard<'_, Option<Map<String, Value>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is going on, a line: stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.beside_clock(|| stderr(text));
        }
    }

    /// Says something where no clock runs meanwhile.
    fn beside_clock<T>(&self, say: impl FnOnce() -> T) -> T {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match clock {
            Some(clock) => clock.suspend(say),
            None => say(),
        }
    }

    /// Work that takes its time, of which nobody knows how long: a clock on a terminal, a line now and then elsewhere,
    /// until what this gives is dropped.
    #[must_use]
    pub fn working(&self, what: &str) -> Working<'_> {
        if self.quiet {
            return Working { printer: self, _pulse: None };
        }
        if !io::stderr().is_terminal() {
            return Working { printer: self, _pulse: self.pulse(what) };
        }
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}").expect("the template is a constant");
        let clock = ProgressBar::new_spinner().with_style(style).with_prefix(foreign::line(what).into_owned());
        clock.enable_steady_tick(Duration::from_millis(500));
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
        Working { printer: self, _pulse: None }
    }

    /// The lines of [`Printer::working`] alone, for work that has a bar on a terminal.
    #[must_use]
    pub fn pulse(&self, what: &str) -> Option<Pulse> {
        let silent = self.quiet || io::stderr().is_terminal();
        (!silent).then(|| Pulse::new(what.to_owned(), FIRST, stderr))
    }

    /// What went wrong, with what to do about it: stderr.
    pub fn error(&self, error: &anyhow::Error) {
        let text = told(error);
        let text = without_stack(&text);
        stderr(&format!("error: {text}"));
        let mut object = serde_json::json!({ "error": text });
        if let Some(hint) = error.chain().find_map(hint) {
            stderr(&format!("hint: {hint}"));
            object["hint"] = hint.into();
        }
        self.object(&object);
    }

    /// A bar of `length` units on a terminal, nothing elsewhere.
    pub fn bar(&self, length: u64, what: &'static str) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {elapsed} left {eta} {msg}")
            .expect("the template is a constant");
        let bar = ProgressBar::new(length).with_style(style).with_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(500));
        bar
    }

    /// How far work has got of which it is known how much there is: a bar on a terminal, a line now and then elsewhere.
    pub fn advance(&self, what: &'static str) -> WorkBar<'_> {
        let template = "{prefix} {wide_bar} {percent} % {elapsed} left {eta} {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        let bar = self.bar(0, what);
        if !bar.is_hidden() {
            bar.set_style(style);
        }
        WorkBar { printer: self, bar, what, said: Instant::now() }
    }

    /// A bar of bytes of a file that are on their way, on a terminal; nothing elsewhere.
    pub fn transfer(&self) -> ProgressBar {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} left {eta}";
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        self.bar(0, "").with_style(style)
    }

    /// A message of a bar, with foreign text in it.
    pub fn message(text: &str) -> String {
        foreign::line(text).into_owned()
    }

    fn stdout(&self, text: &str, end: &str) {
        if self.lost.get().is_none() {
            let written = self.beside_clock(|| {
                let mut out = io::stdout().lock();
                write!(out, "{text}{end}").and_then(|()| out.flush())
            });
            if let Err(error) = written {
                // Another thread's failure may have come first.
                let _ = self.lost.set(error);
            }
        }
    }
}

/// How far work has got.
#[derive(Debug)]
pub struct WorkBar<'p> {
    printer: &'p Printer,
    bar: ProgressBar,
    what: &'static str,
    /// When a line was last said, or the work begun.
    said: Instant,
}

/// Time between two lines about how far work has got.
const LINES: Duration = Duration::from_secs(20);

impl WorkBar<'_> {
    /// So much is done of all.
    pub fn to(&mut self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        if self.bar.is_hidden()
            && let Some(line) = self.line(done, all, Instant::now())
        {
            self.printer.note(&line);
        }
    }

    /// What is to be said by now, if anything.
    fn line(&mut self, done: usize, all: usize, now: Instant) -> Option<String> {
        if now.duration_since(self.said) < LINES {
            return None;
        }
        self.said = now;
        Some(format!("{}: {} %", self.what, done * 100 / all.max(1)))
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Work under way ([`Printer::working`]).
pub struct Working<'a> {
    printer: &'a Printer,
    _pulse: Option<Pulse>,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if let Some(clock) = self.printer.clock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            clock.finish_and_clear();
        }
    }
}

/// A line on stderr. Whoever closed it does not want to know.
fn stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", foreign::line(text));
}

/// What an error says, without the stack that candle's errors end with where RUST_BACKTRACE asks for one: hundreds of
/// lines about the program.
fn without_stack(said: &str) -> &str {
    said.split("\n   0: ").next().unwrap_or(said)
}

fn marked(parts: &[(String, bool)], colour: bool) -> String {
    let part = |(text, marked): &(String, bool)| {
        let text = foreign::lines(text);
        match (colour, marked) {
            (true, true) => format!("\x1b[32m{text}\x1b[0m"),
            (true, false) => format!("\x1b[2m{text}\x1b[0m"),
            (false, true) => format!("[[{text}]]"),
            (false, false) => text.into_owned(),
        }
    };
    parts.iter().map(part).collect()
}

/// What an error of whatever kind advises.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    HINTS.iter().copied().flatten().find_map(|ask| ask(error))
}

/// An error with its causes, without those that the error before has said already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        told if told.ends_with(&cause) => told.to_owned(),
        told => format!("{told}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_now_and_then_says_how_far_it_is() {
        let printer = Printer::new(false, true);
        let mut advance = printer.advance("proving");
        let begun = advance.said;
        let mut at = |seconds: u64, done: usize| advance.line(done, 80, begun + Duration::from_secs(seconds));
        assert_eq!(at(19, 10), None);
        assert_eq!(at(20, 20).as_deref(), Some("proving: 25 %"));
        assert_eq!(at(39, 40), None, "too soon after the last");
        assert_eq!(at(55, 80).as_deref(), Some("proving: 100 %"));
    }

    #[test]
    fn an_error_of_candle_is_said_without_the_stack() {
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let inner = Box::new(candle_core::Error::Msg("out of memory".to_owned()));
        let error = candle_core::Error::WithBacktrace { inner, backtrace };
        let said = format!("{:#}", anyhow::Error::from(error).context("step 3"));
        assert!(said.lines().count() > 5, "{said}");
        assert_eq!(without_stack(&said), "step 3: out of memory");
    }

    #[test]
    fn scored_text_is_marked_and_nothing_steers_the_terminal() {
        let parts = [("a\x1b[2J\n".to_owned(), false), ("é\u{9b}".to_owned(), true)];
        assert_eq!(marked(&parts, false), "a\\u{1b}[2J\n[[é\\u{9b}]]");
        assert_eq!(marked(&parts, true), "\x1b[2ma\\u{1b}[2J\n\x1b[0m\x1b[32mé\\u{9b}\x1b[0m");
    }
}
