use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::thread;

use super::super::exchange::ExchangeFolder;
use super::super::ranks::{Ranks, tests as links};
use super::super::tests::{Pull, identity, observed, optim, settings as plain};
use super::super::{METRICS, Observer, RunEnd, Start, Why, checkpoint, run};
use super::*;

/// Meetings after steps 2, 4, 6, 8 and, because it is the last, 9.
const ROUNDS: usize = 5;

fn settings(out: &Path) -> Run {
    Run { transcript: false, save_every: 0, sync_every: Some(2), ..plain(out) }
}

/// tests/reference/outer_steps.py
fn brought(round: usize, worker: usize) -> ParameterValues {
    let entry = |entry: usize| (1.0 + (entry * entry) as f32 - worker as f32) / (3 + 7 * worker + 31 * round) as f32;
    vec![(0..3).map(entry).collect()]
}

/// tests/reference/outer_steps.py
const STEPS: [(f64, f64, usize, [[u32; 3]; 3]); 3] = [
    (
        0.7,
        0.9,
        1,
        [
            [0x3ee2fc96, 0x3f46d3a0, 0x3fff92c6],
            [0x3da79008, 0x3c332a40, 0x3dd45a80],
            [0xbd91ad8e, 0xbe4c64a1, 0xbef0d006],
        ],
    ),
    (
        0.7,
        0.9,
        3,
        [
            [0x3df93d82, 0x3e6b6800, 0x3f4642d8],
            [0x3c7e5b30, 0xbdaa2198, 0xbd967310],
            [0xbcc98b3e, 0xbddb55e8, 0xbe75a96c],
        ],
    ),
    (
        0.5,
        0.0,
        2,
        [
            [0x3daaaaab, 0x3eb77778, 0x3f59999a],
            [0x3d48c8c9, 0x3e4cc4f8, 0x3ef8e94e],
            [0x3ce84ac1, 0x3de3a266, 0x3e8d69b6],
        ],
    ),
];

#[test]
fn outer_steps_are_those_of_the_reference_to_the_bit() {
    for (lr, momentum, workers, expected) in STEPS {
        let run = Run { outer_lr: Some(lr), outer_momentum: Some(momentum), ..settings(Path::new("")) };
        let mut outer = OuterStep::new(&run, vec![(0..3).map(|entry| entry as f32 / 3.0).collect()]).unwrap();
        for (round, expected) in expected.into_iter().enumerate() {
            let all: Vec<ParameterValues> = (0..workers).map(|worker| brought(round, worker)).collect();
            let values = outer.meet(all[0].clone(), &all);
            let bits: Vec<u32> = values[0].iter().map(|value| value.to_bits()).collect();
            assert_eq!(bits, expected, "{lr} {momentum} {workers}, round {round}");
        }
        assert_eq!(outer.state.rounds, 3);
    }
    // Without a word in the recipe it is DiLoCo's.
    let outer = OuterStep::new(&settings(Path::new("")), Vec::new()).unwrap();
    assert_eq!((outer.rate, outer.momentum), (0.7, 0.9));
    assert!(OuterStep::new(&plain(Path::new("")), Vec::new()).is_none());
}

#[test]
fn averaging_one_worker_is_a_plain_run() {
    let place = tempfile::tempdir().unwrap();
    let [one, other] = ["plain", "averaged"].map(|name| place.path().join(name));
    let go = |run_settings: &Run| {
        run(&Pull::new(41), &optim(), run_settings, &identity(7), Start::Fresh, observed(&|| false, &mut |_| {}))
            .unwrap()
    };
    go(&Run { sync_every: None, ..settings(&one) });
    go(&Run { outer_lr: Some(1.0), outer_momentum: Some(0.0), ..settings(&other) });
    let read = |out: &Path| std::fs::read(out.join(METRICS)).unwrap();
    assert!(read(&one) == read(&other));
    let kept = |out: &Path| checkpoint::Checkpoint::read(&out.join(checkpoint::FILE)).unwrap().unwrap();
    let (one, other) = (kept(&one), kept(&other));
    assert!(one.slots == other.slots && one.outer.is_none());
    assert_eq!(other.outer.unwrap().rounds, ROUNDS);
}

/// One worker's run in `place/worker-I`, with others in other threads.
fn work(place: &Path, worker: usize, workers: usize, exchange: Exchange<'_>) -> Result<RunEnd, TrainError> {
    let out = place.join(format!("worker-{worker}"));
    let see = &mut |_: &_| {};
    let worker = Some(Worker { worker, workers, exchange });
    let observer = Observer { worker, ..observed(&|| false, see) };
    run(&Pull::new(41), &optim(), &settings(&out), &identity(7), Start::Resume, observer)
}

/// All workers over MPI's protocol; a worker goes as soon as it has held the meeting of the round that is named for it.
fn over_ranks(place: &Path, workers: usize, goes: impl Fn(usize) -> usize + Sync) -> Vec<Result<RunEnd, TrainError>> {
    let ways = links::ways(workers).into_iter().enumerate();
    thread::scope(|scope| {
        let threads: Vec<_> = ways
            .map(|(worker, ways)| {
                let goes = &goes;
                scope.spawn(move || {
                    let ranks: Ranks = links::rank(worker, ways, usize::MAX);
                    let meet = |meeting: &Meeting<'_>| {
                        let all = ranks.meet(meeting)?;
                        let gone = meeting.round == goes(worker);
                        if gone { Err(TrainError::Apart { round: meeting.round, worker: 1 }) } else { Ok(all) }
                    };
                    work(place, worker, workers, &meet)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// All workers over a folder; worker 1 goes and comes again at the meeting of a round, before it has brought anything or
/// right after the meeting.
fn over_a_folder(place: &Path, workers: usize, goes: Option<(usize, bool)>) {
    thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                let folder: PathBuf = place.join("exchange");
                let (stop, waiting) = (|| false, |_: &str| {});
                let folder = ExchangeFolder { folder, worker, workers, stop: &stop, waiting: &waiting };
                let leaves = Cell::new(goes.filter(|_| worker == 1));
                let meet = |meeting: &Meeting<'_>| {
                    let gone = TrainError::Apart { round: meeting.round, worker: 1 };
                    match leaves.get().filter(|(round, _)| *round == meeting.round) {
                        Some((_, after)) => {
                            leaves.set(None);
                            if after {
                                folder.meet(meeting)?;
                            }
                            Err(gone)
                        }
                        None => folder.meet(meeting),
                    }
                };
                let mut ended = work(place, worker, workers, &meet).unwrap();
                if ended.why == Why::Stopped {
                    let rounds = goes.unwrap().0 - 1;
                    assert_eq!(ended.step, 2 * rounds, "what is kept is what was met over");
                    ended = work(place, worker, workers, &meet).unwrap();
                }
                assert_eq!((ended.why, ended.step), (Why::Done, 9));
            });
        }
    });
}

fn files(place: &Path, workers: usize) -> Vec<[Vec<u8>; 2]> {
    let of = |worker: usize| {
        let out = place.join(format!("worker-{worker}"));
        [METRICS, checkpoint::FILE].map(|name| std::fs::read(out.join(name)).unwrap())
    };
    (0..workers).map(of).collect()
}

#[test]
fn workers_come_to_the_same_over_a_folder_and_over_ranks_and_end_in_one_place() {
    for workers in 1..=3 {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        over_a_folder(one.path(), workers, None);
        for ended in over_ranks(other.path(), workers, |_| 0) {
            assert_eq!(ended.unwrap().why, Why::Done);
        }
        assert!(files(one.path(), workers) == files(other.path(), workers), "{workers}");
        let kept = |worker: usize| {
            let path = one.path().join(format!("worker-{worker}")).join(checkpoint::FILE);
            checkpoint::Checkpoint::read(&path).unwrap().unwrap()
        };
        let first = kept(0);
        for worker in 1..workers {
            let other = kept(worker);
            assert!(other.slots[0].value == first.slots[0].value && other.slots[0].first != first.slots[0].first);
            assert_ne!(other.identity, first.identity);
        }
        // Of what was brought, the last round remains.
        let rounds: Vec<_> =
            std::fs::read_dir(one.path().join("exchange")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(rounds, ["round-0005"]);
    }
}

#[test]
fn a_worker_that_was_killed_at_any_meeting_comes_to_the_same() {
    let whole = tempfile::tempdir().unwrap();
    over_a_folder(whole.path(), 2, None);
    for round in 1..=ROUNDS {
        for after in [false, true] {
            let place = tempfile::tempdir().unwrap();
            over_a_folder(place.path(), 2, Some((round, after)));
            assert!(files(place.path(), 2) == files(whole.path(), 2), "round {round}, {after}");
        }
        // Over ranks all are ended when one is; each in its turn is the one that is behind.
        for behind in 0..2 {
            let place = tempfile::tempdir().unwrap();
            let ended = over_ranks(place.path(), 2, |worker| if worker == behind { round } else { 0 });
            assert_eq!(ended[behind].as_ref().unwrap().why, Why::Stopped);
            let other = ended[1 - behind].as_ref();
            assert!(matches!(other, Err(TrainError::Lost { .. })), "{round} {behind}");
            for ended in over_ranks(place.path(), 2, |_| 0) {
                assert_eq!(ended.unwrap().why, Why::Done);
            }
            assert!(files(place.path(), 2) == files(whole.path(), 2), "round {round}, {behind} is behind");
        }
    }
}

#[test]
fn the_checkpoint_of_another_worker_is_none_of_this_one() {
    let place = tempfile::tempdir().unwrap();
    over_a_folder(place.path(), 2, None);
    let out = place.path().join("worker-0");
    for (worker, workers) in [(1, 2), (0, 3)] {
        let see = &mut |_: &_| {};
        let never: Exchange<'_> = &|_| panic!("refused before it meets anybody");
        let observer =
            Observer { worker: Some(Worker { worker, workers, exchange: never }), ..observed(&|| false, see) };
        let error = run(&Pull::new(41), &optim(), &settings(&out), &identity(7), Start::Resume, observer).unwrap_err();
        assert!(matches!(error, TrainError::Different(_)), "{error}");
    }
}
