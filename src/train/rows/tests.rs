//! Rows opened by whoever has them, and by somebody who has others.

use std::path::Path;

use candle_core::Tensor;
use ftk_recipes::{BatchLoss, Metrics, Run, Session, StepWindow, TaskError};
use serde_json::json;

use super::super::audit;
use super::super::tests::{Pull, identity, observed, optim, settings};
use super::super::transcript::TRANSCRIPT;
use super::super::{Start, StepReport, run};
use super::*;

/// A task whose rows are texts.
struct Texts(Pull);

fn digest(content: &Value) -> Option<[u8; 32]> {
    Some(*blake3::hash(content.as_str()?.as_bytes()).as_bytes())
}

impl Session for Texts {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn items(&self, row: usize) -> usize {
        self.0.items(row)
    }

    fn digest(&self, row: usize) -> [u8; 32] {
        digest(&json!(format!("row {row}"))).unwrap()
    }

    fn opened(&self, row: usize) -> Option<Value> {
        Some(json!(format!("row {row}")))
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.0.parameters()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        self.0.loss(rows, window)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        self.0.evaluate()
    }
}

fn trained(session: &dyn Session, run_settings: &Run) -> Transcript {
    let (stop, mut see) = (|| false, |_: &StepReport| {});
    run(session, &optim(), run_settings, &identity(7), Start::Fresh, observed(&stop, &mut see)).unwrap();
    audit::open(&run_settings.out.join(TRANSCRIPT)).unwrap()
}

fn opened(session: &dyn Session, run: &Run, transcript: &Transcript, choice: RowChoice) -> Result<OpenedRows, String> {
    let subject = AuditedRun { session, optim: &optim(), run, identity: &identity(7), folder: &run.out };
    open(subject, transcript, &choice).map_err(|error| error.to_string())
}

fn in_two(out: &Path) -> [Run; 2] {
    let salt = Some("a secret of sixteen or more".to_owned());
    [Run { ..settings(&out.join("plain")) }, Run { salt, ..settings(&out.join("salted")) }]
}

#[test]
fn a_row_is_found_with_the_steps_that_learnt_from_it_and_no_other_passes_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut roots = Vec::new();
    for run in in_two(folder.path()) {
        let session = Texts(Pull::new(20));
        let transcript = trained(&session, &run);
        roots.push(transcript.head.data);
        let rows = opened(&session, &run, &transcript, RowChoice::Rows(vec![18, 3])).unwrap();
        let read = OpenedRows::read(&rows.write()).unwrap();
        assert_eq!(read, rows);
        assert_eq!(read.contents().collect::<Vec<_>>(), [(3, &json!("row 2")), (18, &json!("row 17"))]);
        let found = read.check(&transcript, digest).unwrap();
        let optim = optim();
        let stepper = Stepper::new(&session, &optim, &run).unwrap();
        let learnt = |row: usize| {
            let of_row = |&step: &u64| stepper.order.batches(step as usize - 1).concat().contains(&row);
            (1..=9).filter(of_row).collect::<Vec<u64>>()
        };
        for (found, row) in found.iter().zip([2, 17]) {
            assert_eq!((found.row, &found.steps), (row as u64 + 1, &learnt(row)), "{found:?}");
            assert!(!found.steps.is_empty(), "{found:?}");
        }
        // All rows of a step.
        let of_step = opened(&session, &run, &transcript, RowChoice::Step(4)).unwrap();
        let found = of_step.check(&transcript, digest).unwrap();
        let mut due = stepper.order.batches(3).concat();
        due.sort_unstable();
        assert_eq!(found.iter().map(|found| found.row as usize - 1).collect::<Vec<_>>(), due);
        assert!(found.iter().all(|found| found.steps.contains(&4)));

        let refused = |change: &dyn Fn(&mut OpenedRows)| {
            let mut forged = rows.clone();
            change(&mut forged);
            let refused = forged.check(&transcript, digest).unwrap_err();
            (refused.check, refused.step)
        };
        let data = (TranscriptCheck::Data, None);
        assert_eq!(refused(&|it| it.rows[0].content = json!("row 3")), data);
        assert_eq!(refused(&|it| it.rows[0].content = json!(2)), data);
        assert_eq!(refused(&|it| it.rows[0].row = 4), data);
        assert_eq!(refused(&|it| it.rows[0].row = 0), data);
        assert_eq!(refused(&|it| it.of = 21), data);
        assert_eq!(refused(&|it| it.rows[0].path.truncate(2)), data);
        assert_eq!(refused(&|it| it.rows[1].path[0] = Hex(blake3::hash(b"another"))), data);
        assert_eq!(refused(&|it| it.rows[0].salt = Some(Hex(blake3::hash(b"another")))), data);
        let first = rows.steps[0].step;
        let at = (TranscriptCheck::Rows, Some(first));
        assert_eq!(refused(&|it| it.steps[0].batches[0].swap(0, 1)), at);
        assert_eq!(refused(&|it| drop(it.steps[0].batches.pop())), at);
        assert_eq!(refused(&|it| it.steps[0].step = 99), (TranscriptCheck::Rows, Some(99)));
    }
    assert_ne!(roots[0], roots[1]);
}

#[test]
fn who_has_not_the_secret_cannot_try_whether_a_row_is_the_one_they_guess() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, salted] = in_two(folder.path());
    let guess = Hash::from(digest(&json!("row 3")).unwrap());
    // Row 4 is row 3's partner, and so its digest is on the path of row 3.
    for (run, told) in [(plain, true), (salted, false)] {
        let session = Texts(Pull::new(20));
        let transcript = trained(&session, &run);
        let rows = opened(&session, &run, &transcript, RowChoice::Rows(vec![3])).unwrap();
        assert_eq!(rows.rows[0].path[0] == Hex(guess), told);
        // The salt of the row that is opened is no salt of another.
        let salt = rows.rows[0].salt.map(|Hex(salt)| transcript::salted(&salt, guess.as_bytes()));
        assert!(salt.is_none_or(|with| Hex(with) != rows.rows[0].path[0]));
    }
}

#[test]
fn rows_that_are_not_there_or_are_others_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let [run, salted] = in_two(folder.path());
    let session = Texts(Pull::new(20));
    let transcript = trained(&session, &run);
    let said = |session: &dyn Session, run: &Run, choice| opened(session, run, &transcript, choice).unwrap_err();
    let none = "no such rows can be opened: the run has";
    assert_eq!(said(&session, &run, RowChoice::Rows(vec![21])), format!("{none} 20 rows"));
    assert_eq!(said(&session, &run, RowChoice::Rows(vec![0])), format!("{none} 20 rows"));
    assert_eq!(said(&session, &run, RowChoice::Step(10)), format!("{none} 9 steps"));
    let others = "data: the run had other rows than these";
    assert_eq!(said(&Texts(Pull::new(21)), &run, RowChoice::Rows(vec![1])), others);
    assert_eq!(said(&session, &salted, RowChoice::Rows(vec![1])), others);
    // In another order than the recipe's.
    let unshuffled = Run { shuffle: false, ..run.clone() };
    assert!(said(&session, &unshuffled, RowChoice::Rows(vec![3])).contains("rows: it learnt from other rows"));
    // A task whose rows are parts of a whole.
    let whole = Pull::new(20);
    let run = settings(&folder.path().join("whole"));
    let transcript = trained(&whole, &run);
    let error = opened(&whole, &run, &transcript, RowChoice::Rows(vec![1])).unwrap_err();
    assert!(error.contains("by their numbers in a whole"), "{error}");
}

#[test]
fn files_that_are_none_are_refused() {
    assert!(OpenedRows::read("{}").unwrap_err().starts_with("missing field `opened`"));
    let other = r#"{"opened":2,"of":1,"rows":[],"steps":[]}"#;
    assert_eq!(OpenedRows::read(other).unwrap_err(), "is of another version: 2");
}
