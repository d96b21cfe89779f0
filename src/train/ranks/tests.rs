use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::super::tests::{Pull, identity, observed, optim};
use super::super::{METRICS, Observer, RunEnd, Start, Why, checkpoint, run, tests, transcript::TRANSCRIPT};
use super::*;

/// Ways to one rank and from it.
pub(in super::super) type Ways = (Vec<Sender<Vec<u8>>>, Vec<Receiver<Vec<u8>>>);

/// For each rank, ways to all and from all.
pub(in super::super) fn ways(count: usize) -> Vec<Ways> {
    let mut all: Vec<Ways> = (0..count).map(|_| (Vec::new(), Vec::new())).collect();
    for from in 0..count {
        for to in 0..count {
            let (send, receive) = channel();
            all[from].0.push(send);
            all[to].1.push(receive);
        }
    }
    all
}

/// A rank that is a thread; it is lost once it has sent so many messages.
pub(in super::super) fn rank(rank: usize, (to, from): Ways, lost_after: usize) -> Ranks {
    let (count, sent) = (to.len(), Cell::new(0));
    let lost = |rank: usize| TrainError::Lost { rank, message: "its thread has ended".to_owned() };
    let send = move |other: usize, bytes: Vec<u8>| {
        sent.set(sent.get() + 1);
        if sent.get() > lost_after {
            return Err(lost(rank));
        }
        to[other].send(bytes).map_err(|_| lost(other))
    };
    let receive = move |other: usize, length: usize| {
        let bytes = from[other].recv().map_err(|_| lost(other))?;
        assert_eq!(bytes.len(), length, "rank {rank} of {other}");
        Ok(bytes)
    };
    Ranks::new(rank, count, Box::new(send), Box::new(receive))
}

const ROWS: usize = 41;

/// Nine steps of three batches, the last of an epoch of fewer, and no checkpoint before the end.
fn settings(out: &Path) -> Run {
    Run { save_every: 0, ..tests::settings(out) }
}

/// A run of several ranks in this folder; `others` makes the session of another rank and says after how many messages it is
/// lost.
fn shared(
    out: &Path,
    count: usize,
    start: Start,
    others: impl Fn(usize) -> (Pull, usize) + Sync,
) -> (Result<RunEnd, TrainError>, Vec<Result<(), TrainError>>) {
    let mut ways = ways(count).into_iter().enumerate();
    let (_, first) = ways.next().unwrap();
    thread::scope(|scope| {
        let helpers: Vec<_> = ways
            .map(|(nth, ways)| {
                let others = &others;
                scope.spawn(move || {
                    let (session, lost_after) = others(nth);
                    rank(nth, ways, lost_after).help(&session, &settings(out), &identity(7), &|| false)
                })
            })
            .collect();
        let ended = {
            let ranks = rank(0, first, usize::MAX);
            let see = &mut |_: &_| {};
            let observer = Observer { ranks: Some(&ranks), ..observed(&|| false, see) };
            let ready = ranks.gather(&identity(7));
            ready.and_then(|()| run(&Pull::new(ROWS), &optim(), &settings(out), &identity(7), start, observer))
        };
        (ended, helpers.into_iter().map(|helper| helper.join().unwrap()).collect())
    })
}

fn files(out: &Path) -> Vec<Vec<u8>> {
    [METRICS, TRANSCRIPT, checkpoint::FILE].map(|name| std::fs::read(out.join(name)).unwrap()).to_vec()
}

fn alone(out: &Path, start: Start) {
    run(&Pull::new(ROWS), &optim(), &settings(out), &identity(7), start, observed(&|| false, &mut |_| {})).unwrap();
}

#[test]
fn batches_that_are_shared_give_the_bytes_of_one_process() {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("1");
    alone(&whole, Start::Fresh);
    for count in 2..=4 {
        let out = place.path().join(count.to_string());
        let (ended, helped) = shared(&out, count, Start::Fresh, |_| (Pull::new(ROWS), usize::MAX));
        assert_eq!(ended.unwrap().why, Why::Done);
        assert!(helped.iter().all(Result::is_ok), "{helped:?}");
        assert!(files(&out) == files(&whole), "{count}");
    }
}

#[test]
fn a_lost_rank_leaves_a_checkpoint_with_which_any_number_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    alone(&whole, Start::Fresh);
    for count in 1..=3 {
        let out = place.path().join(count.to_string());
        // Two messages say that it is ready, and three answer for a batch: in the middle of the fourth answer.
        let (ended, _) = shared(&out, 2, Start::Fresh, |_| (Pull::new(ROWS), 2 + 3 * 3 + 2));
        match ended.unwrap_err() {
            TrainError::Lost { rank: 1, .. } => {}
            error => panic!("{error}"),
        }
        let path = out.join(checkpoint::FILE);
        let kept = checkpoint::Checkpoint::read(&path).unwrap().expect("there is one").step;
        assert_eq!(kept, 3);
        match count {
            1 => alone(&out, Start::Resume),
            count => drop(shared(&out, count, Start::Resume, |_| (Pull::new(ROWS), usize::MAX)).0.unwrap()),
        }
        assert!(files(&out) == files(&whole), "{count}");
    }
}

#[test]
fn a_rank_that_fails_is_named_with_what_it_says() {
    let place = tempfile::tempdir().unwrap();
    let (ended, _) = shared(place.path(), 3, Start::Fresh, |nth| {
        (if nth == 2 { Pull::failing_at(ROWS, 1) } else { Pull::new(ROWS) }, usize::MAX)
    });
    assert_eq!(ended.unwrap_err().to_string(), "rank 2: step 2: the power went");
}

#[test]
fn a_rank_with_another_run_and_steps_without_a_batch_for_each_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut ways = ways(2).into_iter();
    let [first, second] = [ways.next().unwrap(), ways.next().unwrap()];
    let first = rank(0, first, usize::MAX);
    let out = place.path().to_owned();
    let helper = thread::spawn(move || {
        let ranks = rank(1, second, usize::MAX);
        ranks.help(&Pull::new(ROWS), &settings(&out), &identity(8), &|| false).unwrap_err().to_string()
    });
    let refused = first.gather(&identity(7)).unwrap_err().to_string();
    assert_eq!(refused, "rank 1: has other rows, another base or another arithmetic than rank 0");
    let few = Run { accumulate: 1, ..settings(place.path()) };
    let refused = first.check(&few).unwrap_err().to_string();
    assert_eq!(refused, "run.accumulate: a step has 1 batches, which 2 ranks cannot share");
    assert!(first.check(&Run { accumulate: 2, ..few }).is_ok());
    drop(first);
    assert_eq!(helper.join().unwrap(), "rank 0 is lost: its thread has ended");
}

/// Whoever is asked to stop while it waits does not wait until the step is done.
#[test]
fn a_run_that_is_asked_to_stop_in_the_middle_of_a_step_has_the_one_before() {
    let place = tempfile::tempdir().unwrap();
    let (whole, out) = (place.path().join("whole"), place.path().join("out"));
    alone(&whole, Start::Fresh);
    let received = Cell::new(0);
    let zeros = move |rank: usize, length: usize| {
        received.set(received.get() + 1);
        // A loss and its gradient of nothing, of the first batch of another rank; then the wait for the second.
        if received.get() > 2 + 1 { Err(TrainError::Interrupted(rank)) } else { Ok(vec![0; length]) }
    };
    let ranks = Ranks::new(0, 2, Box::new(|_, _| Ok(())), Box::new(zeros));
    let see = &mut |_: &_| {};
    let observer = Observer { ranks: Some(&ranks), ..observed(&|| false, see) };
    let ended = run(&Pull::new(ROWS), &optim(), &settings(&out), &identity(7), Start::Fresh, observer).unwrap();
    assert_eq!((ended.step, ended.why, ranks.whole()), (1, Why::Stopped, false));
    let kept = checkpoint::Checkpoint::read(&out.join(checkpoint::FILE)).unwrap().expect("there is one");
    assert_eq!(kept.step, 1);
}
