//! What is said of the steps of a run while it goes on: a bar or lines for a person, records for a program, signs that
//! something is wrong.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::super::task::{OpenedRun, Telling};
use crate::cli::printer::Printer;
use crate::train::StepReport;

/// Steps of a run whose every state is looked at.
const YOUNG: usize = 16;

/// Whoever tells of the steps of a run.
pub(super) struct Steps<'a> {
    opened: &'a dyn OpenedRun,
    printer: &'a Printer,
    telling: RefCell<Telling>,
    bar: ProgressBar,
    began: Instant,
    tokens: Cell<usize>,
    told: Cell<bool>,
    diverged: RefCell<Option<String>>,
}

impl<'a> Steps<'a> {
    /// Of a run in the folder `out`, which begins now.
    pub(super) fn new(opened: &'a dyn OpenedRun, out: &Path, printer: &'a Printer) -> Self {
        Self {
            opened,
            printer,
            telling: RefCell::new(opened.telling(out)),
            bar: printer.bar(0, "training"),
            began: Instant::now(),
            tokens: Cell::new(0),
            told: Cell::new(false),
            diverged: RefCell::default(),
        }
    }

    /// Tells of a step.
    pub(super) fn see(&self, step: &StepReport) {
        let Telling { rate, figures, signs } = &mut *self.telling.borrow_mut();
        let (bar, printer) = (&self.bar, self.printer);
        bar.set_length(step.steps as u64);
        bar.set_position(step.step as u64);
        self.tokens.set(self.tokens.get() + step.tokens);
        let mut said = format!("loss {:.4}", step.loss);
        if *rate {
            said += &format!(", {:.0} tokens/s", self.tokens.get() as f64 / self.began.elapsed().as_secs_f64());
        }
        for name in *figures {
            let figure = step.record.get(*name).and_then(Value::as_f64);
            said += &figure.map_or_else(String::new, |figure| format!(", {name} {figure:.4}"));
        }
        // Without a terminal, a line every tenth of the way.
        let tenth = step.step * 10 / step.steps != (step.step - 1) * 10 / step.steps;
        if bar.is_hidden() && (!self.told.replace(true) || tenth) {
            printer.note(&format!("step {}/{}: {said}", step.step, step.steps));
        }
        bar.set_message(said);
        let signs = signs(step, tenth);
        let fatal = signs.iter().find(|(_, fatal)| *fatal).map(|(sign, _)| format!("step {}: {sign}", step.step));
        let signs: Vec<String> = signs.into_iter().filter(|(_, fatal)| !fatal).map(|(sign, _)| sign).collect();
        let mut record = step.record.clone();
        if !signs.is_empty() {
            record.insert("hints".to_owned(), json!(signs));
        }
        // Every value is looked at while a run is young, which is when rates that are too high show, and then with the
        // lines.
        let looked = tenth || step.step <= YOUNG;
        let beyond = if looked { self.opened.beyond() } else { None };
        let beyond = beyond.map(|what| format!("step {}: {what}", step.step));
        if let Some(what) = beyond.or(fatal) {
            self.diverged.borrow_mut().get_or_insert(what);
        }
        bar.suspend(|| signs.iter().for_each(|sign| printer.note(&format!("hint: {sign}"))));
        printer.object(&Value::Object(record));
    }

    /// Whether a value has grown beyond what can be written, or the loss beyond what can be learnt: the run is to end.
    pub(super) fn diverged(&self) -> bool {
        self.diverged.borrow().is_some()
    }

    /// Takes the bar away; what has grown beyond what can be used, if something has.
    pub(super) fn end(self) -> Option<String> {
        self.bar.finish_and_clear();
        self.diverged.into_inner()
    }
}
