//! All output goes through here.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use ftk_adapters::peft::PeftError;
use ftk_recipes::RecipeError;
use ftk_recipes::gnn::GraphError;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::device::DeviceError;
use crate::models::ModelError;
#[cfg(feature = "hub")]
use crate::models::hub::HubError;
use crate::text::TextError;
use crate::train::TrainError;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    json: bool,
    quiet: bool,
}

impl Printer {
    /// With `json`, stdout carries JSON only; with `quiet`, stderr carries errors only.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether data for a person may have colours: stdout is a terminal, and NO_COLOR does not forbid them.
    pub fn colour(&self) -> bool {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        !self.json && !forbidden && io::stdout().is_terminal()
    }

    /// A line of data for a person: stdout, unless JSON was asked for.
    pub fn line(&self, text: &str) {
        if !self.json {
            stdout(text, "\n");
        }
    }

    /// Data for a person that does not end its line.
    pub fn part(&self, text: &str) {
        if !self.json {
            stdout(text, "");
        }
    }

    /// The same data for a program: stdout, if JSON was asked for.
    pub fn object(&self, value: &Value) {
        if self.json {
            stdout(&value.to_string(), "\n");
        }
    }

    /// What is going on: stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// What went wrong, with what to do about it: stderr.
    pub fn error(&self, error: &anyhow::Error) {
        eprintln!("error: {error:#}");
        if let Some(hint) = error.chain().find_map(hint) {
            eprintln!("hint: {hint}");
        }
        if self.json {
            stdout(&serde_json::json!({ "error": format!("{error:#}") }).to_string(), "\n");
        }
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

    /// A bar of bytes that are on their way, with the file's name as its message, on a terminal; nothing elsewhere.
    pub fn transfer(&self) -> ProgressBar {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} left {eta}";
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        self.bar(0, "").with_style(style)
    }
}

/// Output that a reader no longer wants is not an error of ours.
fn stdout(text: &str, end: &str) {
    let mut out = io::stdout().lock();
    if write!(out, "{text}{end}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// What the errors that know it advise.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<RecipeError>() {
        return error.hint.clone();
    }
    if let Some(error) = error.downcast_ref::<GraphError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = error.downcast_ref::<ModelError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<DeviceError>() {
        return Some(error.hint());
    }
    #[cfg(feature = "hub")]
    if let Some(error) = error.downcast_ref::<HubError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<TextError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<PeftError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return error.hint().map(str::to_owned);
    }
    error.downcast_ref::<crate::commands::Advice>().map(|advice| advice.hint.clone())
}
