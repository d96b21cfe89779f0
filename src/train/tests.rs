//! The host of a run on a task small enough to be known by heart.

use ftk_adapters::hint::Hint;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use ftk_recipes::{BatchLoss, Best, Format, Metrics, Optim, Run, Schedule, Session, StepWindow, TaskError};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::checkpoint::{Checkpoint, FILE, Slot};
use super::optimiser::AdamW;
use super::order::RowOrder;
use super::stepper::rate;
use super::{Lock, METRICS, Observer, RunEnd, RunIdentity, Start, StepReport, TrainError, Why, best, run};

/// Pulls a matrix `(2, 2)` towards the sum of its rows' targets: row `r` has `r % 3` items, each of
/// which adds half the squared distance to `r / 10`.
pub(super) struct Pull {
    rows: usize,
    pub(super) weight: Tensor,
    /// Never part of the loss, if there is one.
    idle: Option<Tensor>,
    calls: Cell<usize>,
    /// The call of `loss` that fails.
    fails_at: Option<usize>,
    /// Added to every loss.
    offset: f64,
}

impl Pull {
    pub(super) fn new(rows: usize) -> Self {
        let weight = variable(&[0.5, -1.0, 2.0, 0.25], &[2, 2]);
        Self { rows, weight, idle: None, calls: Cell::new(0), fails_at: None, offset: 0.0 }
    }

    pub(super) fn failing_at(rows: usize, call: usize) -> Self {
        Self { fails_at: Some(call), ..Self::new(rows) }
    }
}

/// An observer that keeps nothing.
pub(super) fn observed<'a>(stop: &'a dyn Fn() -> bool, see: &'a mut dyn FnMut(&StepReport)) -> Observer<'a> {
    Observer { stop, save: &|_| Ok(()), see, ranks: None, worker: None }
}

pub(super) fn variable(values: &[f32], shape: &[usize]) -> Tensor {
    Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap().into_inner()
}

impl Session for Pull {
    fn rows(&self) -> usize {
        self.rows
    }

    fn items(&self, row: usize) -> usize {
        row % 3
    }

    fn tokens(&self, row: usize) -> usize {
        row
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let idle = self.idle.iter().map(|idle| ("idle".to_owned(), idle.clone()));
        idle.chain([("weight".to_owned(), self.weight.clone())]).collect()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        assert!(rows.iter().all(|row| window.rows.contains(row)), "a batch is a part of its step");
        let call = self.calls.replace(self.calls.get() + 1);
        if self.fails_at == Some(call) {
            return Err("the power went".into());
        }
        let weight = self.weight.detach();
        let (mut sum, mut gradient) = (self.offset, weight.zeros_like()?);
        for &row in rows {
            assert!(self.items(row) > 0, "row {row} has nothing to learn from");
            let (away, items) = ((&weight - row as f64 / 10.0)?, self.items(row) as f64);
            sum += f64::from(away.sqr()?.sum_all()?.to_scalar::<f32>()?) * 0.5 * items;
            gradient = (gradient + (away * items)?)?;
        }
        let gradients = [("weight".to_owned(), gradient)].into();
        let metrics = vec![("rows", rows.len() as f64), ("row", rows.iter().sum::<usize>() as f64)];
        Ok(BatchLoss { sum, gradients, metrics })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let sum = f64::from(self.weight.sum_all()?.to_scalar::<f32>()?);
        Ok(vec![("eval_sum", sum), (Best::Loss.name(), sum), (Best::Margins.name(), sum)])
    }
}

pub(super) fn settings(out: &Path) -> Run {
    Run {
        out: out.to_owned(),
        epochs: 1.0,
        steps: Some(9),
        batch: 2,
        accumulate: 3,
        recompute: false,
        precision: Format::F32,
        tf32: false,
        seed: 4,
        shuffle: true,
        keep: 0,
        transcript: true,
        salt: None,
        state_every: 0,
        save_every: 2,
        eval_every: 4,
        best: None,
        patience: None,
        sync_every: None,
        outer_lr: None,
        outer_momentum: None,
    }
}

pub(super) fn optim() -> Optim {
    Optim { lr: 0.05, weight_decay: 0.01, warmup_steps: 2, ..Optim::default() }
}

pub(super) fn identity(byte: u8) -> RunIdentity {
    RunIdentity { digest: [byte; 32], arithmetic: "ftk-f32-1".to_owned() }
}

pub(super) fn go(session: &Pull, run_settings: &Run, start: Start) -> Result<(), TrainError> {
    run(session, &optim(), run_settings, &identity(7), start, observed(&|| false, &mut |_| {})).map(drop)
}

fn files(out: &Path) -> [Vec<u8>; 2] {
    [METRICS, FILE].map(|name| std::fs::read(out.join(name)).unwrap())
}

fn records(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join(METRICS)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_that_failed_inside_an_accumulation_window_resumes_to_the_bytes_of_one_that_never_did() {
    let whole = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &settings(whole.path()), Start::Fresh).unwrap();
    let never_stopped = files(whole.path());
    assert_eq!(records(whole.path()).len(), 9);

    // Thirteen rows have items: an epoch is windows of 3, 3 and 1 batches. Before the first checkpoint, right
    // after one, and with a step recorded that no checkpoint holds; each inside a window.
    for (call, step) in [(1, 1), (8, 4), (11, 5), (18, 8)] {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let error = go(&Pull::failing_at(20, call), &settings, Start::Fresh).unwrap_err();
        assert_eq!(error.to_string(), format!("step {step}: the power went"));
        assert_eq!(records(folder.path()).len(), step - 1);
        go(&Pull::new(20), &settings, Start::Resume).unwrap();
        assert!(files(folder.path()) == never_stopped, "stopped in call {call}");
    }

    // Stopped twice, the second time before any further checkpoint; then resumed once more at its end.
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    go(&Pull::failing_at(20, 11), &settings, Start::Fresh).unwrap_err();
    go(&Pull::failing_at(20, 1), &settings, Start::Resume).unwrap_err();
    for _ in 0..2 {
        go(&Pull::new(20), &settings, Start::Resume).unwrap();
        assert!(files(folder.path()) == never_stopped);
    }
}

#[test]
fn a_resumed_session_starts_from_the_values_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Pull::new(20), Pull::new(20));
    go(&first, &settings(folder.path()), Start::Fresh).unwrap();
    go(&second, &settings(folder.path()), Start::Resume).unwrap();
    let values = |session: &Pull| session.weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&first), values(&second));
    assert_ne!(values(&first), values(&Pull::new(20)));
    assert_eq!(second.calls.get(), 0);
}

#[test]
fn a_checkpoint_of_another_run_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    go(&Pull::new(20), &settings, Start::Fresh).unwrap();
    let before = files(folder.path());
    let path = folder.path().join(FILE);

    let resumed = |identity: &RunIdentity| {
        run(&Pull::new(20), &optim(), &settings, identity, Start::Resume, observed(&|| false, &mut |_| {})).unwrap_err()
    };
    let error = resumed(&identity(8));
    assert!(matches!(&error, TrainError::Different(at) if *at == path), "{error}");
    assert!(error.hint().unwrap().starts_with("choose another folder with --out; to train on"));
    // Begun in other numbers, which is why the digests differ too.
    let error = resumed(&RunIdentity { arithmetic: "cuda-f32".to_owned(), ..identity(8) });
    let message = "was computed in ftk-f32-1, and this run computes in cuda-f32";
    assert_eq!(error.to_string(), format!("{}: {message}", path.display()));
    assert!(error.hint().unwrap().contains("--device"));
    // The same identity, but other parameters.
    let more = Pull { idle: Some(variable(&[1.0], &[1])), ..Pull::new(20) };
    assert!(matches!(go(&more, &settings, Start::Resume).unwrap_err(), TrainError::Different(at) if at == path));
    let wider = Pull { weight: variable(&[1.0; 6], &[2, 3]), ..Pull::new(20) };
    assert!(matches!(go(&wider, &settings, Start::Resume).unwrap_err(), TrainError::Different(at) if at == path));
    assert!(files(folder.path()) == before);
}

#[test]
fn a_folder_that_holds_a_run_is_refused_without_resume() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    go(&Pull::new(20), &settings, Start::Fresh).unwrap();
    let before = files(folder.path());
    let error = go(&Pull::new(20), &settings, Start::Fresh).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: holds a run that reached step 9", folder.path().join(FILE).display()));
    assert!(error.hint().unwrap().contains("--resume"));
    assert!(files(folder.path()) == before);
}

#[test]
fn metrics_shorter_than_their_checkpoint_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    go(&Pull::failing_at(20, 11), &settings, Start::Fresh).unwrap_err();
    let metrics = folder.path().join(METRICS);
    std::fs::write(&metrics, "{}\n").unwrap();
    let error = go(&Pull::new(20), &settings, Start::Resume).unwrap_err();
    assert!(matches!(&error, TrainError::Checkpoint { path, .. } if *path == metrics), "{error}");
    assert_eq!(std::fs::read_to_string(&metrics).unwrap(), "{}\n");
    std::fs::remove_file(&metrics).unwrap();
    assert!(matches!(go(&Pull::new(20), &settings, Start::Resume), Err(TrainError::Checkpoint { .. })));
}

#[test]
fn a_run_stops_where_the_numbers_end_or_nothing_can_be_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let infinite = Pull { offset: f64::INFINITY, ..Pull::new(20) };
    let error = go(&infinite, &settings, Start::Fresh).unwrap_err();
    assert_eq!(error.to_string(), "step 1: the loss is not finite");
    assert!(error.hint().unwrap().starts_with("it is so before anything is learnt"));
    let later = TrainError::NotFinite { step: 2, what: "the loss" };
    assert!(later.hint().unwrap().starts_with("lower optim.lr"));
    let idle = Pull { idle: Some(variable(&[1.0], &[1])), ..Pull::new(20) };
    assert_eq!(go(&idle, &settings, Start::Fresh).unwrap_err().to_string(), "no gradient reaches idle");
    assert!(matches!(go(&Pull::new(1), &settings, Start::Fresh), Err(TrainError::Empty)));
    assert!(!folder.path().join(FILE).exists());
}

#[test]
fn a_record_holds_the_figures_of_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Run { steps: None, epochs: 2.0, shuffle: false, ..settings(folder.path()) };
    go(&Pull::new(20), &settings, Start::Fresh).unwrap();
    let records = records(folder.path());
    let column = |name: &str| records.iter().map(|record| record[name].as_f64()).collect::<Vec<_>>();
    assert_eq!(column("step"), (1..=6).map(|step| Some(f64::from(step))).collect::<Vec<_>>());
    assert_eq!(column("epoch")[2..], [Some(1.0), Some(4.0 / 3.0), Some(5.0 / 3.0), Some(2.0)]);
    assert_eq!(column("learning_rate")[..3], [Some(0.0), Some(0.025), Some(0.05)]);
    // A row's tokens are its number.
    assert_eq!(column("num_tokens")[..4], [Some(27.0), Some(108.0), Some(127.0), Some(154.0)]);
    // Rows 1, 2, 4, 5, 7, 8, then 10, 11, ..., 17, then 19, in batches of two: means over rows.
    assert_eq!(column("row")[..3], [Some(27.0 / 6.0), Some(81.0 / 6.0), Some(19.0)]);
    assert_eq!(column("rows")[..3], [Some(1.0); 3]);
    assert_eq!(
        column("eval_sum").iter().map(Option::is_some).collect::<Vec<_>>(),
        [false, false, false, true, false, true]
    );
    // The first loss by hand: a mean over the nine items of the window.
    let weight = [0.5, -1.0, 2.0, 0.25];
    let distance = |row: f64| weight.iter().map(|w: &f64| (w - row / 10.0).powi(2)).sum::<f64>() / 2.0;
    let items = [(1.0, 1.0), (2.0, 2.0), (4.0, 1.0), (5.0, 2.0), (7.0, 1.0), (8.0, 2.0)];
    let loss = items.iter().map(|(row, items)| items * distance(*row)).sum::<f64>() / 9.0;
    assert!((column("loss")[0].unwrap() - loss).abs() < 1e-6);
    let slope = |w: &f64| items.iter().map(|(row, items)| items * (w - row / 10.0)).sum::<f64>() / 9.0;
    let norm = weight.iter().map(|w| slope(w).powi(2)).sum::<f64>().sqrt();
    assert!((column("grad_norm")[0].unwrap() - norm).abs() < 1e-6);
}

#[test]
fn how_a_window_falls_into_batches_does_not_change_the_step() {
    let losses = [(6, 1), (3, 2), (2, 3), (1, 6)].map(|(batch, accumulate)| {
        let folder = tempfile::tempdir().unwrap();
        go(&Pull::new(20), &Run { batch, accumulate, ..settings(folder.path()) }, Start::Fresh).unwrap();
        records(folder.path()).iter().map(|record| record["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    });
    for other in &losses[1..] {
        assert_eq!(other.len(), 9);
        assert!(losses[0].iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5), "{losses:?}");
    }
}

#[test]
fn schedules_rise_over_the_warm_up_and_fall_as_named() {
    let rates = |schedule, warmup_steps, steps: usize| -> Vec<f64> {
        let optim = Optim { schedule, warmup_steps, ..Optim::default() };
        (0..steps).map(|step| rate(&optim, step, steps)).collect()
    };
    assert_eq!(rates(Schedule::Linear, 0, 4), [1.0, 0.75, 0.5, 0.25]);
    assert_eq!(rates(Schedule::Linear, 2, 6), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
    assert_eq!(rates(Schedule::Constant, 4, 6), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
    let cosine = rates(Schedule::Cosine, 1, 5);
    let expected = [0.0, 1.0, 0.5 + 0.125f64.sqrt(), 0.5, 0.5 - 0.125f64.sqrt()];
    assert!(cosine.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{cosine:?}");
    // A warm-up longer than the run.
    assert_eq!(rates(Schedule::Linear, 8, 3), [0.0, 0.125, 0.25]);
    assert_eq!(rates(Schedule::Cosine, 3, 3), [0.0, 1.0 / 3.0, 2.0 / 3.0]);
}

/// A run of nine steps, evaluated after every one, whose weight passes the best sum on its way.
fn seeking(out: &Path, best: Best, patience: Option<usize>) -> Run {
    Run { eval_every: 1, best: Some(best), patience, shuffle: false, ..settings(out) }
}

fn weight(session: &Pull) -> Vec<f32> {
    session.weight.flatten_all().unwrap().to_vec1().unwrap()
}

fn go_on(session: &Pull, run_settings: &Run, start: Start, stop: &dyn Fn() -> bool) -> RunEnd {
    run(session, &optim(), run_settings, &identity(7), start, observed(stop, &mut |_| {})).unwrap()
}

#[test]
fn the_best_evaluation_is_what_remains_and_patience_ends_the_run() {
    // The sum of the weights rises: as a loss the first evaluation is the best, as a margin the last.
    let folder = tempfile::tempdir().unwrap();
    let session = Pull::new(20);
    let ended = go_on(&session, &seeking(folder.path(), Best::Margins, None), Start::Fresh, &|| false);
    let figures: Vec<f64> =
        records(folder.path()).iter().map(|it| it[Best::Margins.name()].as_f64().unwrap()).collect();
    let highest = figures.iter().copied().fold(f64::MIN, f64::max);
    let at = 1 + figures.iter().position(|&figure| figure == highest).unwrap();
    assert_eq!((ended.step, ended.steps, ended.why, ended.best), (9, 9, Why::Done, Some((at, highest))));

    let folder = tempfile::tempdir().unwrap();
    let session = Pull::new(20);
    let settings = seeking(folder.path(), Best::Loss, Some(3));
    let ended = go_on(&session, &settings, Start::Fresh, &|| false);
    // The learning rate of the first step is 0.
    assert_eq!((ended.step, ended.steps, ended.why, ended.best), (4, 9, Why::Patience, Some((1, 1.75))));
    assert_eq!(weight(&session), weight(&Pull::new(20)));
    assert_eq!(records(folder.path()).len(), 4);
    let before = files(folder.path());
    // Taken up again, it is at its end.
    let session = Pull::new(20);
    assert_eq!(go_on(&session, &settings, Start::Resume, &|| false), ended);
    assert_eq!((session.calls.get(), weight(&session)), (0, weight(&Pull::new(20))));
    assert!(files(folder.path()) == before);
}

#[test]
fn a_stopped_run_goes_on_with_what_was_best_and_how_long_it_has_waited() {
    for (best, patience) in [(Best::Loss, Some(5)), (Best::Margins, None), (Best::Loss, None)] {
        let whole = tempfile::tempdir().unwrap();
        let never = Pull::new(20);
        let expected = go_on(&never, &seeking(whole.path(), best, patience), Start::Fresh, &|| false);
        let folder = tempfile::tempdir().unwrap();
        let settings = Run { save_every: 0, ..seeking(folder.path(), best, patience) };
        // Asked to stop after every step.
        let mut start = Start::Fresh;
        for step in 1..expected.step {
            let session = Pull::new(20);
            let ended = go_on(&session, &settings, start, &|| true);
            assert_eq!((ended.step, ended.why), (step, Why::Stopped));
            start = Start::Resume;
        }
        let session = Pull::new(20);
        assert_eq!(go_on(&session, &settings, start, &|| true), expected);
        assert_eq!(weight(&session), weight(&never));
        assert!(files(folder.path()) == files(whole.path()));
    }
}

#[test]
fn a_figure_that_cannot_be_compared_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let settings = seeking(folder.path(), Best::Accuracies, None);
    let error = go(&Pull::new(20), &settings, Start::Fresh).unwrap_err();
    assert_eq!(error.to_string(), "step 1: the figure of run.best is not finite");
}

#[test]
fn a_folder_has_one_run_at_a_time_and_is_free_when_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let first = Lock::take(&out).unwrap();
    let error = Lock::take(&out).unwrap_err();
    assert_eq!(error.to_string(), format!("another run is writing to this folder: {}", out.display()));
    assert!(error.hint().unwrap().contains("--out"));
    drop(first);
    Lock::take(&out).unwrap();
}

#[cfg(unix)]
#[test]
fn a_process_that_was_handed_the_lock_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::take(folder.path()).unwrap();
    let mut child =
        std::process::Command::new("sleep").arg("600").stdin(lock.held_by_child().unwrap()).spawn().unwrap();
    drop(lock);
    let held = Lock::take(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(held, Err(TrainError::Locked(_))), "{held:?}");
    Lock::take(folder.path()).unwrap();
}

fn epoch(order: &RowOrder, epoch: usize, per_epoch: usize) -> Vec<usize> {
    (epoch * per_epoch..(epoch + 1) * per_epoch).flat_map(|step| order.batches(step)).flatten().collect()
}

#[test]
fn every_epoch_is_a_permutation_of_its_own() {
    let rows: Vec<usize> = (0..23).map(|row| row * 2).collect();
    let run = Run { steps: None, epochs: 3.0, ..settings(Path::new("")) };
    let order = RowOrder::new(rows.clone(), &run);
    // Windows of six rows: four to an epoch.
    assert_eq!(order.steps(), 12);
    let mut seen = BTreeSet::from([rows.clone()]);
    for number in 0..3 {
        let mut epoch = epoch(&order, number, 4);
        assert!(seen.insert(epoch.clone()), "epoch {number} has an order seen before");
        epoch.sort_unstable();
        assert_eq!(epoch, rows);
    }
    let again = RowOrder::new(rows.clone(), &run);
    assert_eq!(epoch(&again, 2, 4), epoch(&order, 2, 4));
    let other = RowOrder::new(rows, &Run { seed: 5, ..run });
    assert!(seen.insert(epoch(&other, 0, 4)));
}

#[test]
fn without_shuffle_rows_come_in_their_order_and_the_last_window_is_what_is_left() {
    let run = Run { shuffle: false, batch: 2, accumulate: 2, ..settings(Path::new("")) };
    let order = RowOrder::new(vec![3, 1, 4, 1, 5, 9, 2], &run);
    for first in [0, 2, 4] {
        assert_eq!(order.batches(first), [vec![3, 1], vec![4, 1]]);
        assert_eq!(order.batches(first + 1), [vec![5, 9], vec![2]]);
    }
    assert_eq!([0, 1, 2].map(|step| order.epoch_after(step)), [0.5, 1.0, 1.5]);
}

#[test]
fn what_lies_before_a_step_is_the_sum_over_the_steps_before_it() {
    let run = Run { steps: None, epochs: 3.0, ..settings(Path::new("")) };
    let order = RowOrder::new((0..23).collect(), &run);
    let mut sum = 0;
    for step in 0..order.steps() {
        assert_eq!(order.before(step, |row| row * row), sum, "step {step}");
        sum += order.batches(step).iter().flatten().map(|row| row * row).sum::<usize>();
    }
}

#[test]
fn steps_replace_epochs_and_a_part_of_an_epoch_is_rounded_up() {
    let steps = |steps, epochs| {
        RowOrder::new((0..20).collect(), &Run { steps, epochs, batch: 3, accumulate: 1, ..settings(Path::new("")) })
            .steps()
    };
    assert_eq!(steps(Some(2), 5.0), 2);
    assert_eq!(steps(None, 1.0), 7);
    assert_eq!(steps(None, 0.5), 4);
    assert_eq!(steps(None, 1e-9), 1);
}

/// Parameters and their reference in f64, from the papers: clip by the norm over everything, decay
/// the matrix but not the vector, correct both moments for their start at zero.
#[test]
fn adamw_follows_a_reference_in_f64() {
    let optim = Optim { betas: [0.8, 0.95], eps: 1e-3, weight_decay: 0.2, max_grad_norm: 1.5, ..Optim::default() };
    let start: [Vec<f64>; 2] = [vec![0.5, -1.0, 2.0, 0.25, 1.5, -0.75], vec![1.0, 0.9, -0.3]];
    let shapes: [&[usize]; 2] = [&[2, 3], &[3]];
    let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let parameters: Vec<(String, Tensor)> = ["matrix", "vector"]
        .into_iter()
        .zip(start.iter().zip(shapes))
        .map(|(name, (values, shape))| (name.to_owned(), variable(&single(values), shape)))
        .collect();
    let mut ours = AdamW::new(&parameters, &optim).unwrap();

    let mut theirs = start;
    let mut moments = [0, 1].map(|index| vec![(0.0, 0.0); theirs[index].len()]);
    let mut clipped = 0;
    for step in 1..=6 {
        let lr = 0.1 / f64::from(step);
        // Multiples of 1/8, exact in f32; large in odd steps, so that some are clipped and some are not.
        let size = if step % 2 == 1 { 8 } else { 1 };
        let gradient = |parameter: usize, i: usize| {
            f64::from((step * 7 + (i * 5 + parameter * 3) as i32) % 9 - 4) / 32.0 * f64::from(size)
        };
        let gradients: Vec<Vec<f64>> =
            [6, 3].into_iter().enumerate().map(|(p, count)| (0..count).map(|i| gradient(p, i)).collect()).collect();
        let norm = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let clip = (1.5 / (norm + 1e-6)).min(1.0);
        clipped += i32::from(clip < 1.0);
        for (index, decay) in [(0, 0.2), (1, 0.0)] {
            for ((p, (m, v)), g) in theirs[index].iter_mut().zip(&mut moments[index]).zip(&gradients[index]) {
                let g = g * clip;
                *m = 0.8 * *m + 0.2 * g;
                *v = 0.95 * *v + 0.05 * g * g;
                let (mean, square) = (*m / (1.0 - 0.8f64.powi(step)), *v / (1.0 - 0.95f64.powi(step)));
                *p = *p * (1.0 - lr * decay) - lr * mean / (square.sqrt() + 1e-3);
            }
        }
        let gradients: Vec<Vec<f32>> = gradients.iter().map(|values| single(values)).collect();
        let reported = ours.step(&gradients, lr).unwrap();
        assert!((reported - norm).abs() < 1e-12, "the norm before clipping");
        for ((name, tensor), theirs) in parameters.iter().zip(&theirs) {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (ours, theirs) in values.iter().zip(theirs) {
                assert!((f64::from(*ours) - theirs).abs() < 2e-6, "step {step}, {name}: {ours} against {theirs}");
            }
        }
    }
    assert_eq!(clipped, 3);
}

#[test]
fn a_limit_of_zero_leaves_gradients_alone_and_a_broken_gradient_changes_nothing() {
    let moved = |limit: f64, gradient: f32| {
        let weight = variable(&[1.0], &[1, 1]);
        // So large an eps makes the update follow the gradient's size.
        let optim = Optim { max_grad_norm: limit, eps: 1e3, ..Optim::default() };
        let mut adamw = AdamW::new(&[("weight".to_owned(), weight.clone())], &optim).unwrap();
        let norm = adamw.step(&[vec![gradient]], 1.0).unwrap();
        (norm, 1.0 - weight.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0])
    };
    let near = |(norm, moved): (f64, f32), expected: f32| norm == 10.0 && (moved - expected).abs() < 1e-4;
    assert!(near(moved(0.0, 10.0), 10.0 / 1010.0));
    assert!(near(moved(1.0, 10.0), 1.0 / 1001.0));
    assert!(near(moved(20.0, 10.0), 10.0 / 1010.0));
    let (norm, change) = moved(1.0, f32::NAN);
    assert!(norm.is_nan() && change == 0.0);
}

fn slot(name: &str, length: usize) -> Slot {
    let values = |by: f32| (0..length).map(|i| by * (i as f32 - 1.5)).collect();
    Slot { name: name.to_owned(), value: values(1.0), first: values(0.5), second: values(0.25) }
}

fn checkpoint() -> Checkpoint {
    let slots = vec![slot("a", 3), slot("b.c", 5)];
    // A figure that a hasty reader of numbers gets wrong in its last bit.
    let best = best::BestKept { step: 8, figure: 0.1 + 0.2, waited: 2, values: vec![vec![7.0; 3], vec![8.0; 5]] };
    Checkpoint {
        step: 12,
        identity: identity(0xab),
        metrics_bytes: 345,
        transcript_bytes: Some(67),
        slots,
        best: Some(best),
        outer: Some(super::outer::OuterState {
            rounds: 3,
            values: vec![vec![1.0; 3], vec![2.0; 5]],
            momentum: vec![vec![3.0; 3], vec![4.0; 5]],
            brought: vec![vec![5.0; 3], vec![6.0; 5]],
        }),
    }
}

#[test]
fn a_checkpoint_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    assert_eq!(Checkpoint::read(&path).unwrap(), None);
    checkpoint().write(&path).unwrap();
    assert_eq!(Checkpoint::read(&path).unwrap(), Some(checkpoint()));
    let first = std::fs::read(&path).unwrap();
    checkpoint().write(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == first, "the same checkpoint gives the same bytes");
}

#[test]
fn a_truncated_or_altered_checkpoint_is_an_error_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    checkpoint().write(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        let error = Checkpoint::parse(&path, &whole[..length]).unwrap_err();
        assert!(matches!(&error, TrainError::Checkpoint { path: at, .. } if *at == path), "{length}: {error}");
    }
    // A changed value cannot be told from another checkpoint, but whatever is read is whole.
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x11;
        if let Ok(found) = Checkpoint::parse(&path, &bytes) {
            let lengths = |slot: &Slot| [&slot.value, &slot.first, &slot.second].map(Vec::len);
            assert!(found.slots.iter().map(lengths).all(|[a, b, c]| a == b && b == c), "{index}");
        }
    }
}

#[test]
fn a_foreign_file_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let about =
        |step: &str, identity: &str| format!("{{\"step\":{step},\"identity\":\"{identity}\",\"metrics_bytes\":0}}");
    let good = about("1", &"ab".repeat(32));
    let says = |tensors: &[(&str, Dtype, usize)], about: Option<&str>| {
        let bytes = [0u8; 64];
        let views = tensors.iter().map(|&(name, dtype, length)| {
            let size = if dtype == Dtype::F32 { 4 } else { 8 };
            (name, TensorView::new(dtype, vec![length], &bytes[..length * size]).unwrap())
        });
        let about = about.map(|about| HashMap::from([("ftk".to_owned(), about.to_owned())]));
        std::fs::write(&path, safetensors::serialize(views, about).unwrap()).unwrap();
        Checkpoint::read(&path).map(|found| found.expect("the file is there")).map_err(|error| {
            let text = error.to_string();
            text.strip_prefix(&format!("{}: ", path.display())).expect("the path comes first").to_owned()
        })
    };
    let slot = [("value/a", Dtype::F32, 2), ("first/a", Dtype::F32, 2), ("second/a", Dtype::F32, 2)];
    let nameless = says(&slot, Some(&good)).unwrap();
    assert_eq!(nameless.slots.len(), 1);
    let refused = nameless.belongs_to(&identity(0xab), &path).unwrap_err().to_string();
    assert!(refused.contains("was computed in an arithmetic without a name"), "{refused}");
    assert_eq!(says(&slot, None).unwrap_err(), "is no checkpoint");
    assert!(says(&slot, Some("{}")).unwrap_err().contains("missing field"));
    assert!(says(&slot, Some(&about("-1", &"ab".repeat(32)))).unwrap_err().contains("invalid value"));
    for identity in ["", "zz", &"ab".repeat(31), &"zz".repeat(32), &"é".repeat(32)] {
        assert!(says(&slot, Some(&about("1", identity))).is_err(), "{identity}");
    }
    assert!(says(&slot[..2], Some(&good)).unwrap_err().contains("second/a"));
    let f64s = [slot[0], slot[1], ("second/a", Dtype::F64, 2)];
    assert_eq!(says(&f64s, Some(&good)).unwrap_err(), "holds values other than f32");
    let short = [slot[0], ("first/a", Dtype::F32, 1), slot[2]];
    assert_eq!(says(&short, Some(&good)).unwrap_err(), "holds moments of another length than their values");
    let best = good.replace('}', ",\"best\":{\"step\":1,\"figure\":\"0.5\",\"waited\":0}}");
    assert!(says(&slot, Some(&best)).unwrap_err().contains("best/a"));
    let kept = |length| [slot[0], slot[1], slot[2], ("best/a", Dtype::F32, length)];
    assert_eq!(says(&kept(2), Some(&best)).unwrap().best.unwrap().values, [[0.0; 2]]);
    assert_eq!(says(&kept(1), Some(&best)).unwrap_err(), "holds best values of another length");
    let word = best.replace("0.5", "half");
    assert_eq!(says(&kept(2), Some(&word)).unwrap_err(), "holds a best figure that is no number");
    // A folder in its place.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(Checkpoint::read(&path), Err(TrainError::Io { .. })));
}
