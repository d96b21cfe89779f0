//! Audits of honest runs, and of runs by somebody who recomputes everything public.

use std::cell::{Cell, RefCell};

use candle_core::{Device, Tensor};
use ftk_adapters::hint::Hint;
use ftk_recipes::{BatchLoss, Best, Metrics, StepWindow, TaskError};

use super::super::account::{TranscriptLog, Written};
use super::super::checkpoint::{Checkpoint, FILE, Slot, kept_states, state_file};
use super::super::log::{LineLog, METRICS};
use super::super::tests::{Pull, go, identity, observed, optim, settings, variable};
use super::super::transcript::{Scribe, StepRecord, TranscriptEnd, read};
use super::super::{Start, Why, run};
use super::*;

mod checks;

/// Nine steps of six rows each, with a state kept after every other.
fn kept(out: &Path) -> Run {
    Run { state_every: 2, ..settings(out) }
}

fn transcript(out: &Path) -> Transcript {
    open(&out.join(TRANSCRIPT)).unwrap()
}

fn audited(session: &Pull, run: &Run, which: &Which) -> Result<Audited, AuditError> {
    let subject = AuditedRun { session, optim: &optim(), run, identity: &identity(7), folder: &run.out };
    let transcript = open(&run.out.join(TRANSCRIPT))?;
    audit(subject, &transcript, which, &mut |_, _| {})
}

/// The check that refuses a run, and at which step.
fn refused(run: &Run, which: &Which) -> (&'static str, Option<u64>) {
    match audited(&Pull::new(20), run, which) {
        Err(AuditError::Refused(refused)) => (refused.check.name(), refused.step),
        other => panic!("{other:?}"),
    }
}

fn steps<const N: usize>(steps: [u64; N]) -> Which {
    Which::Steps(steps.into())
}

const ALL: Which = Which::All;

#[test]
fn an_honest_run_follows_in_full_and_by_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    assert_eq!(kept_states(folder.path()).unwrap(), [2, 4, 6, 8]);
    let whole = audited(&Pull::new(20), &run, &ALL).unwrap();
    assert_eq!(whole.computed, (1..=9).collect());
    assert_eq!((whole.steps, whole.result, whole.shown), (9, 9, true));
    assert_eq!((whole.root, &whole.kept[..]), (transcript(folder.path()).root().unwrap(), &[2, 4, 6, 8, 9][..]));
    assert!(whole.moved.is_some_and(|moved| moved > 0.0 && moved < 1.0), "{whole:?}");
    // A step is computed from the state before it, or as near as one is kept.
    for (step, computed) in [(1, 1..=1), (2, 1..=2), (5, 5..=5), (6, 5..=6), (9, 9..=9)] {
        let session = Pull::new(20);
        let one = audited(&session, &run, &steps([step])).unwrap();
        assert_eq!(one.computed, computed.collect(), "{step}");
        // The result's values are shown in any case: they are in the checkpoint.
        assert!(one.shown);
    }
    assert_eq!(audited(&Pull::new(20), &run, &steps([8, 3])).unwrap().computed, [3, 7, 8].into());
    assert_eq!(audited(&Pull::new(20), &run, &steps([])).unwrap().computed, BTreeSet::new());
    // Without states there is the beginning, and without a checkpoint no result.
    std::fs::remove_dir_all(folder.path().join("states")).unwrap();
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    match audited(&Pull::new(20), &run, &ALL) {
        Err(AuditError::Undecided(TrainError::NotKept(path))) => assert_eq!(path, state_file(folder.path(), 2)),
        other => panic!("{other:?}"),
    }
    let run = Run { state_every: 0, ..run };
    let one = audited(&Pull::new(20), &run, &steps([4])).unwrap();
    assert_eq!((one.computed, one.kept, one.moved, one.shown), ((1..=4).collect(), vec![], None, false));
}

#[test]
fn a_transcript_is_the_same_wherever_a_run_was_stopped() {
    let whole = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &kept(whole.path()), Start::Fresh).unwrap();
    let text = |out: &Path| std::fs::read(out.join(TRANSCRIPT)).unwrap();
    for stop in 1..9 {
        let folder = tempfile::tempdir().unwrap();
        let (run_settings, asked) = (kept(folder.path()), Cell::new(0));
        let stopping = || asked.replace(asked.get() + 1) + 1 == stop;
        let ended = |start, stop: &dyn Fn() -> bool| {
            run(&Pull::new(20), &optim(), &run_settings, &identity(7), start, observed(stop, &mut |_| {})).unwrap()
        };
        assert_eq!(ended(Start::Fresh, &stopping).transcript, None);
        let check = refused(&run_settings, &ALL);
        assert_eq!(check, ("end", None));
        let root = ended(Start::Resume, &|| false).transcript;
        assert_eq!(root, transcript(whole.path()).root());
        assert_eq!(text(folder.path()), text(whole.path()));
        // A run that is over has the same root when it is asked to go on.
        assert_eq!(ended(Start::Resume, &|| false).transcript, root);
        assert_eq!(text(folder.path()), text(whole.path()));
        audited(&Pull::new(20), &run_settings, &ALL).unwrap();
    }
}

#[test]
fn a_run_goes_on_with_the_transcript_it_wrote_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let run_settings = kept(folder.path());
    let stopped = Cell::new(0);
    let stop = || stopped.replace(stopped.get() + 1) == 4;
    let go_on = |run_settings: &Run, start, stop: &dyn Fn() -> bool| {
        run(&Pull::new(20), &optim(), run_settings, &identity(7), start, observed(stop, &mut |_| {}))
    };
    go_on(&run_settings, Start::Fresh, &stop).unwrap();
    let path = folder.path().join(TRANSCRIPT);
    let whole = std::fs::read_to_string(&path).unwrap();
    let said = || match go_on(&run_settings, Start::Resume, &|| false) {
        Err(error @ TrainError::Transcript { .. }) => {
            assert!(error.hint().unwrap().contains("run.transcript=false"));
            error.to_string()
        }
        other => panic!("{other:?}"),
    };
    std::fs::write(&path, whole.replacen("\"step\":2", "\"step\":3", 1)).unwrap();
    assert!(said().ends_with("line 3 does not follow from what it says and the line before"));
    // A transcript of another run, one that is none at its end, one of another step.
    let mut other = read(whole.as_bytes()).unwrap();
    other.head.seed += 1;
    rewrite(folder.path(), &other, &other.steps, None);
    let length = std::fs::metadata(&path).unwrap().len();
    assert_eq!(length, whole.len() as u64);
    assert!(said().ends_with("is the transcript of another run: seed"), "{}", said());
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let padding = format!("{}{}", " ".repeat(lines[5].len() - 1), "\n");
    std::fs::write(&path, lines[..5].concat() + &padding).unwrap();
    assert!(said().ends_with("line 6: is neither head nor step nor end of a transcript"), "{}", said());
    let stretched = lines[4].replacen('{', &format!("{{{}", " ".repeat(lines[5].len())), 1);
    std::fs::write(&path, lines[..4].concat() + &stretched).unwrap();
    assert!(said().ends_with("says 4 steps where its checkpoint says: 5"), "{}", said());
    std::fs::remove_file(&path).unwrap();
    assert!(said().contains("is shorter than its checkpoint says"), "{}", said());
    let without = Run { transcript: false, state_every: 0, ..run_settings.clone() };
    assert_eq!(go_on(&without, Start::Resume, &|| false).unwrap().transcript, None);
    assert!(!path.exists());
}

#[test]
fn a_transcript_changes_nothing_of_a_run_and_is_not_begun_in_its_middle() {
    let [with, without] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    go(&Pull::new(20), &kept(with.path()), Start::Fresh).unwrap();
    let off = Run { transcript: false, ..kept(without.path()) };
    let stopped = Cell::new(false);
    let stop = || !stopped.replace(true);
    let came = run(&Pull::new(20), &optim(), &off, &identity(7), Start::Fresh, observed(&stop, &mut |_| {})).unwrap();
    assert_eq!((came.why, came.transcript), (Why::Stopped, None));
    let on = Run { transcript: true, ..off };
    let came = run(&Pull::new(20), &optim(), &on, &identity(7), Start::Resume, observed(&|| false, &mut |_| {}));
    assert_eq!(came.unwrap().transcript, None);
    assert!(!without.path().join(TRANSCRIPT).exists() && !without.path().join("states").exists());
    let states = |out: &Path| {
        let state = Checkpoint::read(&out.join(FILE)).unwrap().unwrap();
        (state.slots, state.metrics_bytes, std::fs::read(out.join(METRICS)).unwrap())
    };
    assert_eq!(states(with.path()), states(without.path()));
}

/// Somebody who trains otherwise than the recipe says, or writes down otherwise than they trained, and makes everything
/// that follows fit.
struct Forger<'a> {
    /// Changes a step's rows.
    rows: &'a dyn Fn(u64, &mut Vec<Vec<usize>>),
    /// Multiplies a step's learning rate.
    rate: &'a dyn Fn(u64) -> f64,
    /// Changes the state after a step.
    state: &'a dyn Fn(u64, &mut [Slot]),
    /// Changes the figures of a step.
    line: &'a dyn Fn(u64, &mut String),
    /// Changes what is said of a step.
    says: &'a dyn Fn(u64, &mut StepRecord),
}

const HONEST: Forger<'static> =
    Forger { rows: &|_, _| {}, rate: &|_| 1.0, state: &|_, _| {}, line: &|_, _| {}, says: &|_, _| {} };

impl Forger<'_> {
    /// Makes all files of a run.
    fn forge(&self, session: &dyn Session, run: &Run) {
        let (optim, identity) = (optim(), identity(7));
        let mut stepper = Stepper::new(session, &optim, run).unwrap();
        let mut account = TranscriptLog::open(&stepper, run, &identity, Some((0, 0))).unwrap();
        let mut metrics = LineLog::open(&run.out.join(METRICS), 0).unwrap();
        let steps = stepper.order.steps();
        for step in 1..=steps as u64 {
            let done = step as usize;
            let mut batches = stepper.order.batches(done - 1);
            (self.rows)(step, &mut batches);
            let rate = stepper.rate(done - 1) * (self.rate)(step);
            let stepped = stepper.step_on(done - 1, batches, rate).unwrap();
            let mut state = stepper.optimiser.checkpoint(done, &identity, (0, None), None, None);
            (self.state)(step, &mut state.slots);
            stepper.optimiser.restore(state, Path::new("")).unwrap();
            let evaluated = if stepper.evaluates_after(done) { stepper.evaluate(done).unwrap() } else { Vec::new() };
            let seen = stepper.seen_before(done - 1) + stepped.tokens;
            let (_, mut line) = stepper.line(done, &stepped, seen, evaluated);
            (self.line)(step, &mut line);
            metrics.append(&line).unwrap();
            let Some(Written { log, scribe, rows }) = &mut account.0 else { panic!("it is written") };
            let mut record = stepper.written(done, &stepped, &line, rows);
            (self.says)(step, &mut record);
            log.append(&scribe.step(&record)).unwrap();
            let state = stepper.optimiser.checkpoint(done, &identity, (0, None), None, None);
            if done.is_multiple_of(run.state_every) {
                state.keep(&run.out).unwrap();
            }
            if done == steps {
                state.write(&run.out.join(FILE)).unwrap();
            }
        }
        account.end(TranscriptEnd { ended: steps as u64, result: steps as u64 }).unwrap();
    }

    /// The check that refuses it when everything is computed again.
    fn found(&self) -> (&'static str, Option<u64>) {
        self.found_in(&ALL)
    }

    fn found_in(&self, which: &Which) -> (&'static str, Option<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let run = kept(folder.path());
        self.forge(&Pull::new(20), &run);
        refused(&run, which)
    }
}

#[test]
fn the_forger_without_a_forgery_is_honest() {
    let [forged, honest] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    HONEST.forge(&Pull::new(20), &kept(forged.path()));
    go(&Pull::new(20), &kept(honest.path()), Start::Fresh).unwrap();
    assert_eq!(transcript(forged.path()), transcript(honest.path()));
    audited(&Pull::new(20), &kept(forged.path()), &ALL).unwrap();
}

#[test]
fn another_row_is_found() {
    // Learnt from and said so; learnt from, and the right one said.
    let other = |step: u64, batches: &mut Vec<Vec<usize>>| {
        if step == 5 {
            batches[1][0] = if batches[1][0] == 1 { 4 } else { 1 };
        }
    };
    assert_eq!(Forger { rows: &other, ..HONEST }.found(), ("rows", Some(5)));
    let honest = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &kept(honest.path()), Start::Fresh).unwrap();
    let said = transcript(honest.path());
    let says = |step: u64, record: &mut StepRecord| record.rows = said.steps[step as usize - 1].rows;
    let lying = Forger { rows: &other, says: &says, ..HONEST };
    assert_eq!(lying.found(), ("gradients", Some(5)));
    // A sample finds it where it falls on the step, or on one that is computed from before it.
    assert_eq!(lying.found_in(&steps([6])), ("gradients", Some(5)));
    let folder = tempfile::tempdir().unwrap();
    lying.forge(&Pull::new(20), &kept(folder.path()));
    audited(&Pull::new(20), &kept(folder.path()), &steps([4, 9])).unwrap();
    // One row more among all.
    assert_eq!(
        match audited(&Pull::new(22), &kept(folder.path()), &ALL) {
            Err(AuditError::Refused(refused)) => refused.check,
            other => panic!("{other:?}"),
        },
        TranscriptCheck::Data
    );
}

#[test]
fn another_order_is_found() {
    let turned = |step: u64, batches: &mut Vec<Vec<usize>>| {
        if step == 5 {
            batches.reverse();
        }
    };
    assert_eq!(Forger { rows: &turned, ..HONEST }.found(), ("rows", Some(5)));
}

#[test]
fn another_seed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let other = Run { seed: 5, ..kept(folder.path()) };
    HONEST.forge(&Pull::new(20), &other);
    assert_eq!(refused(&kept(folder.path()), &ALL), ("seed", None));
    // At one step alone.
    let run = kept(folder.path());
    let session = Pull::new(20);
    let optim = optim();
    let order = Stepper::new(&session, &optim, &Run { seed: 5, ..run.clone() }).unwrap().order;
    let at = |step: u64, batches: &mut Vec<Vec<usize>>| {
        if step == 3 {
            *batches = order.batches(2);
        }
    };
    assert_eq!(Forger { rows: &at, ..HONEST }.found(), ("rows", Some(3)));
}

#[test]
fn another_learning_rate_at_one_step_is_found() {
    let halved = |step: u64| if step == 5 { 0.5 } else { 1.0 };
    assert_eq!(Forger { rate: &halved, ..HONEST }.found(), ("rate", Some(5)));
    let says = |step: u64, record: &mut StepRecord| {
        if step == 5 {
            record.rate = (f64::from_bits(record.rate) * 2.0).to_bits();
        }
    };
    assert_eq!(Forger { rate: &halved, says: &says, ..HONEST }.found(), ("values", Some(5)));
}

/// A task whose gradients are added up in binary64 at the fifth step.
struct Wider(Pull);

impl Session for Wider {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn items(&self, row: usize) -> usize {
        self.0.items(row)
    }

    fn tokens(&self, row: usize) -> usize {
        self.0.tokens(row)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.0.parameters()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let mut loss = self.0.loss(rows, window)?;
        if window.step == 4 {
            let weight = self.0.weight.flatten_all()?.to_vec1::<f32>()?;
            let of_row = |weight: f32, row: usize| (f64::from(weight) - row as f64 / 10.0) * self.items(row) as f64;
            let sums = weight.iter().map(|&weight| rows.iter().map(|&row| of_row(weight, row)).sum::<f64>() as f32);
            let gradient = Tensor::from_vec(sums.collect::<Vec<f32>>(), self.0.weight.shape(), &Device::Cpu)?;
            loss.gradients.insert("weight".to_owned(), gradient);
        }
        Ok(loss)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        self.0.evaluate()
    }
}

#[test]
fn a_step_in_another_arithmetic_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    HONEST.forge(&Wider(Pull::new(20)), &run);
    assert_eq!(refused(&run, &ALL), ("gradients", Some(5)));
    assert_eq!(refused(&run, &steps([5])), ("gradients", Some(5)));
    // Said to be in another one from the start.
    let other = RunIdentity { arithmetic: "another".to_owned(), ..identity(7) };
    let session = Pull::new(20);
    let subject = AuditedRun { session: &session, optim: &optim(), run: &run, identity: &other, folder: &run.out };
    match audit(subject, &transcript(folder.path()), &steps([]), &mut |_, _| {}) {
        Err(AuditError::Refused(refused)) => assert_eq!(refused.check, TranscriptCheck::Run),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_number_of_a_state_is_found_at_every_step() {
    type Part = fn(&mut Slot) -> &mut f32;
    let parts: [(&str, Part); 3] = [
        ("values", |slot| &mut slot.value[3]),
        ("first", |slot| &mut slot.first[0]),
        ("second", |slot| &mut slot.second[2]),
    ];
    for (name, part) in parts {
        for at in 1..=9 {
            let changed = |step: u64, slots: &mut [Slot]| {
                if step == at {
                    let number = part(&mut slots[0]);
                    *number = f32::from_bits(number.to_bits() + 1);
                }
            };
            assert_eq!(Forger { state: &changed, ..HONEST }.found(), (name, Some(at)));
        }
    }
}

#[test]
fn a_changed_parameter_is_named_where_the_state_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let changed = |step: u64, slots: &mut [Slot]| slots[0].value[1] += if step == 4 { 1e-4 } else { 0.0 };
    Forger { state: &changed, ..HONEST }.forge(&Pull::new(20), &kept(folder.path()));
    let Err(error) = audited(&Pull::new(20), &kept(folder.path()), &ALL) else { panic!("it is refused") };
    assert_eq!(error.to_string(), "step 4: values: computed again, they are others: weight");
}

#[test]
fn a_step_left_out_or_done_twice_is_found() {
    // Said to have been done: the state is as it was.
    let before: RefCell<Vec<Slot>> = RefCell::default();
    let idle = |step: u64, slots: &mut [Slot]| {
        if step == 5 {
            slots.clone_from_slice(&before.borrow());
        }
        *before.borrow_mut() = slots.to_vec();
    };
    assert_eq!(Forger { state: &idle, ..HONEST }.found(), ("first", Some(5)));
    // Left out of the lines, which are chained anew; and its number given to the next one.
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    let honest = transcript(folder.path());
    let without: Vec<StepRecord> = honest.steps.iter().filter(|record| record.step != 5).cloned().collect();
    rewrite(folder.path(), &honest, &without, Some(TranscriptEnd { ended: 9, result: 9 }));
    assert_eq!(refused(&run, &ALL), ("steps", Some(5)));
    let number = |(at, record): (usize, StepRecord)| StepRecord { step: at as u64 + 1, ..record };
    let renumbered: Vec<StepRecord> = without.into_iter().enumerate().map(number).collect();
    rewrite(folder.path(), &honest, &renumbered, Some(TranscriptEnd { ended: 8, result: 8 }));
    assert_eq!(refused(&run, &ALL), ("figures", Some(9)));
    let metrics = folder.path().join(METRICS);
    let lines = std::fs::read_to_string(&metrics).unwrap();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    std::fs::write(&metrics, [&lines[..4], &lines[5..]].concat().concat()).unwrap();
    assert_eq!(refused(&run, &ALL), ("rows", Some(5)));
    // Twice.
    let twice: Vec<StepRecord> =
        honest.steps.iter().flat_map(|record| vec![record.clone(); if record.step == 5 { 2 } else { 1 }]).collect();
    rewrite(folder.path(), &honest, &twice, Some(TranscriptEnd { ended: 10, result: 10 }));
    assert_eq!(refused(&run, &ALL), ("steps", Some(6)));
}

/// Writes a transcript of these steps whose chain holds.
fn rewrite(out: &Path, of: &Transcript, steps: &[StepRecord], end: Option<TranscriptEnd>) {
    let (mut scribe, mut text) = Scribe::begin(&of.head);
    steps.iter().for_each(|record| text += &scribe.step(record));
    if let Some(end) = end {
        text += &scribe.end(end).0;
    }
    std::fs::write(out.join(TRANSCRIPT), text).unwrap();
}

#[test]
fn a_transcript_that_was_cut_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    let honest = transcript(folder.path());
    let path = folder.path().join(TRANSCRIPT);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // The end, the last steps; the head; a line in the middle; half a line.
    for (left, check) in [
        (lines[..10].concat(), ("end", None)),
        (lines[..4].concat(), ("end", None)),
        (lines[1..].concat(), ("form", None)),
        ([&lines[..5], &lines[6..]].concat().concat(), ("chain", Some(5))),
        (text[..text.len() - 1].to_owned(), ("form", None)),
        (String::new(), ("form", None)),
    ] {
        std::fs::write(&path, left).unwrap();
        assert_eq!(refused(&run, &ALL), check);
    }
    // With an end of its own, and figures that go no further.
    rewrite(folder.path(), &honest, &honest.steps[..7], Some(TranscriptEnd { ended: 7, result: 7 }));
    let metrics = std::fs::read_to_string(folder.path().join(METRICS)).unwrap();
    let shorter: String = metrics.split_inclusive('\n').take(7).collect();
    std::fs::write(folder.path().join(METRICS), shorter).unwrap();
    assert_eq!(refused(&run, &ALL), ("end", Some(7)));
}

#[test]
fn a_transcript_that_was_spliced_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    let stolen = |step: u64, slots: &mut [Slot]| slots[0].value[0] += if step == 1 { 1e-3 } else { 0.0 };
    Forger { state: &stolen, ..HONEST }.forge(&Pull::new(20), &run);
    let other = transcript(folder.path());
    let end = std::fs::read_to_string(folder.path().join(TRANSCRIPT)).unwrap();
    let honest = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &kept(honest.path()), Start::Fresh).unwrap();
    let begin = std::fs::read_to_string(honest.path().join(TRANSCRIPT)).unwrap();
    // The lines as they are.
    let lines = begin.split_inclusive('\n').take(6).chain(end.split_inclusive('\n').skip(6));
    std::fs::write(folder.path().join(TRANSCRIPT), lines.collect::<String>()).unwrap();
    assert_eq!(refused(&run, &ALL), ("chain", Some(6)));
    // Chained anew, with the figures and states that belong to them.
    let ours = transcript(honest.path());
    let spliced = [&ours.steps[..5], &other.steps[5..]].concat();
    rewrite(folder.path(), &ours, &spliced, Some(TranscriptEnd { ended: 9, result: 9 }));
    let figures = |out: &Path| std::fs::read_to_string(out.join(METRICS)).unwrap();
    let (begin, end) = (figures(honest.path()), figures(folder.path()));
    let lines = begin.split_inclusive('\n').take(5).chain(end.split_inclusive('\n').skip(5));
    std::fs::write(folder.path().join(METRICS), lines.collect::<String>()).unwrap();
    for step in [2, 4] {
        std::fs::copy(state_file(honest.path(), step), state_file(folder.path(), step)).unwrap();
    }
    assert_eq!(refused(&run, &ALL), ("gradients", Some(6)));
}

#[test]
fn a_stolen_adapter_is_found_without_computing() {
    let stolen = |step: u64, slots: &mut [Slot]| slots[0].value[2] += if step == 5 { 3.0 } else { 0.0 };
    let forger = Forger { state: &stolen, ..HONEST };
    assert_eq!(forger.found_in(&steps([])), ("bound", Some(6)));
    let nothing = |step: u64, slots: &mut [Slot]| slots[0].value[2] *= if step == 9 { f32::NAN } else { 1.0 };
    assert_eq!(Forger { state: &nothing, ..HONEST }.found_in(&steps([])), ("bound", Some(9)));
}

#[test]
fn files_that_are_not_those_of_the_transcript_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    audited(&Pull::new(20), &run, &ALL).unwrap();
    let changed = |name: &Path, change: &dyn Fn(&mut Vec<u8>), check| {
        let whole = std::fs::read(name).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(name, bytes).unwrap();
        assert_eq!(refused(&run, &steps([])), check, "{}", name.display());
        std::fs::write(name, whole).unwrap();
    };
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    changed(&state_file(folder.path(), 4), &last, ("state", Some(4)));
    changed(&folder.path().join(FILE), &last, ("state", Some(9)));
    let digit = |bytes: &mut Vec<u8>| {
        let at = bytes.iter().position(|&byte| byte == b'.').unwrap() + 2;
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    };
    changed(&folder.path().join(METRICS), &digit, ("figures", Some(1)));
    let other = state_file(folder.path(), 5);
    std::fs::copy(state_file(folder.path(), 4), &other).unwrap();
    assert_eq!(refused(&run, &steps([])), ("state", Some(4)));
    std::fs::remove_file(other).unwrap();
    let beyond = std::fs::read(state_file(folder.path(), 4)).unwrap();
    let text = String::from_utf8_lossy(&beyond).into_owned();
    assert!(text.contains("\\\"step\\\":4"), "the state says its step");
    audited(&Pull::new(20), &run, &steps([])).unwrap();
    // Another identity, of a recipe with other steps, in another arithmetic.
    let with = |run: &Run, identity: &RunIdentity| {
        let session = Pull::new(20);
        let subject = AuditedRun { session: &session, optim: &optim(), run, identity, folder: folder.path() };
        match audit(subject, &transcript(folder.path()), &ALL, &mut |_, _| {}) {
            Err(AuditError::Refused(refused)) => refused.check.name(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with(&run, &identity(8)), "run");
    assert_eq!(with(&run, &RunIdentity { arithmetic: "cpu-bf16".to_owned(), ..identity(7) }), "run");
    assert_eq!(with(&Run { steps: Some(8), ..run.clone() }, &identity(7)), "length");
    let mut session = Pull::new(20);
    session.weight = variable(&[0.5, -1.0, 2.0, 0.5], &[2, 2]);
    match audited(&session, &run, &ALL) {
        Err(AuditError::Refused(refused)) => assert_eq!(refused.check, TranscriptCheck::Start),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_best_state_is_the_one_that_the_figures_say() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run { best: Some(Best::Loss), eval_every: 2, patience: Some(2), ..kept(folder.path()) };
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    let honest = transcript(folder.path());
    let TranscriptEnd { ended, result } = honest.end.unwrap();
    assert!(result < ended, "{:?}", honest.end);
    let session = Pull::new(20);
    let found = audited(&session, &run, &steps([])).unwrap();
    assert_eq!((found.result, found.shown), (result, true));
    let best = Checkpoint::read(&folder.path().join(FILE)).unwrap().unwrap().best.unwrap();
    assert_eq!(session.weight.flatten_all().unwrap().to_vec1::<f32>().unwrap(), best.values[0]);
    rewrite(folder.path(), &honest, &honest.steps, Some(TranscriptEnd { ended, result: ended }));
    assert_eq!(refused(&run, &steps([])), ("end", Some(ended)));
}

#[test]
fn two_transcripts_part_at_the_planted_step() {
    let honest = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &kept(honest.path()), Start::Fresh).unwrap();
    let ours = transcript(honest.path());
    assert_eq!(bisect(&ours, &ours).0, Parting::Nowhere);
    for at in 1..=9 {
        let folder = tempfile::tempdir().unwrap();
        let changed = |step: u64, slots: &mut [Slot]| slots[0].second[1] *= if step == at { 1.5 } else { 1.0 };
        Forger { state: &changed, ..HONEST }.forge(&Pull::new(20), &kept(folder.path()));
        for (one, other) in [(&ours, &transcript(folder.path())), (&transcript(folder.path()), &ours)] {
            let (parting, compared) = bisect(one, other);
            assert_eq!(parting, Parting::Step(at, vec!["second"]), "{at}");
            assert!(compared <= 4, "{compared}");
        }
    }
    let cut =
        Transcript { steps: ours.steps[..3].to_vec(), end: None, chain: ours.chain[..4].to_vec(), ..ours.clone() };
    assert_eq!(bisect(&ours, &cut).0, Parting::Length(3));
    let mut other = ours.clone();
    other.head.seed += 1;
    other.chain.iter_mut().for_each(|chain| *chain = blake3::hash(chain.as_bytes()));
    assert_eq!(bisect(&ours, &other).0, Parting::Head(vec!["seed"]));
    let mut other = ours.clone();
    *other.chain.last_mut().unwrap() = blake3::hash(b"another end");
    assert_eq!(bisect(&ours, &other).0, Parting::Result);
}

#[test]
fn steps_are_drawn_by_root_and_nonce() {
    let root = |byte: u8| Hash::from([byte; 32]);
    let drawn = draw(&root(1), "ours", 8, 60);
    assert_eq!((drawn.len(), draw(&root(1), "ours", 8, 60)), (8, drawn.clone()));
    assert!(drawn.iter().all(|step| (1..=60).contains(step)));
    assert_ne!(draw(&root(1), "theirs", 8, 60), drawn);
    assert_ne!(draw(&root(2), "ours", 8, 60), drawn);
    assert_eq!(draw(&root(1), "ours", 100, 7), (1..=7).collect());
    // All steps have their turn.
    let all: BTreeSet<u64> = (0..100).flat_map(|nonce| draw(&root(1), &nonce.to_string(), 3, 20)).collect();
    assert_eq!(all, (1..=20).collect());
}

#[test]
fn a_line_of_a_transcript_is_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &kept(folder.path()), Start::Fresh).unwrap();
    let text = std::fs::read_to_string(folder.path().join(TRANSCRIPT)).unwrap();
    let said = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    read(text.as_bytes()).unwrap();
    let upper = text.replacen("\"chain\":\"", "\"chain\":\"A", 1);
    assert_eq!(said(&upper), "line 1: is neither head nor step nor end of a transcript");
    let more = text.replacen("{\"step\":2", "{\"loss\":0,\"step\":2", 1);
    assert_eq!(said(&more), "line 3: is neither head nor step nor end of a transcript");
    let version = text.replacen("\"transcript\":1", "\"transcript\":2", 1);
    assert_eq!(said(&version), "line 1: is of another version: 2");
    let long = format!("{}{text}", " ".repeat(5000));
    assert_eq!(said(&long), "line 1: has no line feed within what a line may have");
}
