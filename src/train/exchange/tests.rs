use candle_core::Device;

use super::*;

const RUN: [u8; 32] = [7; 32];

fn folder(folder: &Path, worker: usize) -> ExchangeFolder<'static> {
    ExchangeFolder { folder: folder.to_owned(), worker, workers: 2, stop: &|| true, waiting: &|_| {} }
}

fn parameters() -> Vec<(String, Tensor)> {
    let tensor = |length: usize| Tensor::zeros(length, candle_core::DType::F32, &Device::Cpu).unwrap();
    vec![("a".to_owned(), tensor(3)), ("b.c".to_owned(), tensor(2))]
}

fn values() -> ParameterValues {
    vec![vec![1.0, -2.0, 0.5], vec![3.0, f32::MIN_POSITIVE]]
}

#[test]
fn what_another_brings_is_read_and_whoever_is_missing_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (parameters, ours, theirs) = (parameters(), values(), vec![vec![4.0; 3], vec![5.0; 2]]);
    let before = ParameterValues::new();
    let meeting = Meeting { round: 3, run: &RUN, parameters: &parameters, ours: Some(&ours), before: &before };
    let error = folder(place.path(), 0).meet(&meeting).unwrap_err().to_string();
    assert_eq!(error, "asked to stop in round 3 while waiting for worker 2");
    let all = folder(place.path(), 1).meet(&Meeting { ours: Some(&theirs), ..meeting }).unwrap();
    assert_eq!(all, [ours.clone(), theirs.clone()]);
    assert_eq!(folder(place.path(), 0).meet(&meeting).unwrap(), [ours.clone(), theirs]);
    // Whoever has made the last round leaves what it brought, and waits for nobody.
    assert!(folder(place.path(), 0).meet(&Meeting { round: 4, ours: None, ..meeting }).unwrap().is_empty());
}

#[test]
fn what_is_not_of_the_meeting_is_refused_by_what_it_is() {
    let (parameters, values, before) = (parameters(), values(), ParameterValues::new());
    let place = tempfile::tempdir().unwrap();
    let meeting = Meeting { round: 3, run: &RUN, parameters: &parameters, ours: Some(&values), before: &before };
    let theirs = folder(place.path(), 1);
    let refused = |bytes: &[u8]| {
        let path = folder(place.path(), 0).file(3, 1);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        match folder(place.path(), 0).meet(&meeting).unwrap_err() {
            TrainError::Exchange { path: at, message } if at == path => message,
            error => panic!("{error}"),
        }
    };
    let whole = theirs.bytes(&meeting, &values);
    let other = Meeting { run: &[8; 32], ..meeting };
    assert_eq!(
        refused(&theirs.bytes(&other, &values)),
        "is of another run: another recipe, other rows or another base"
    );
    let other = Meeting { round: 2, ..meeting };
    assert_eq!(refused(&theirs.bytes(&other, &values)), "is of round 2, worker 2 of 2");
    let other = ExchangeFolder { workers: 3, ..folder(place.path(), 1) };
    assert_eq!(refused(&other.bytes(&meeting, &values)), "is of round 3, worker 2 of 3");
    let mut short = values.clone();
    short[1].pop();
    assert_eq!(refused(&theirs.bytes(&meeting, &short)), "holds b.c in another form");
    let mut broken = values.clone();
    broken[0][1] = f32::NAN;
    assert_eq!(refused(&theirs.bytes(&meeting, &broken)), "holds a value of a that is not finite");
    let plain = safetensors::serialize(std::iter::empty::<(&str, TensorView<'_>)>(), None).unwrap();
    assert_eq!(refused(&plain), "is not what a worker brings to a meeting");
    // Whatever is cut off or changed is an error and never a panic.
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    let head = whole.len() - 5 * 4;
    for at in 0..head {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let path = folder(place.path(), 0).file(3, 1);
        let _ = theirs.parse(&path, &changed, &meeting, 1);
    }
}
