//! A bundle from question to verdict, in memory.

mod world;

use std::sync::LazyLock;
use std::time::Duration;

use ftk_circuits::CheckFailed;

use crate::bundle::{Bundle, DELTAS, Files, PackedBundle, Proof, REGISTRATION};
use crate::deadline::Deadline;
use crate::limits::Limits;
use crate::open_mode::replayed;
use crate::refusal::{Refusal, Stage};
use crate::verdict::{Expectations, ExpectedInput, Missing, Verdict};
use crate::verifier::{Pending, Verifier};

use self::world::World;

static WORLD: LazyLock<World> = LazyLock::new(world::world);

fn verifier() -> Verifier {
    Verifier::new(WORLD.model(), Limits::NONE)
}

fn any() -> Expectations {
    Expectations { adapter: Some(WORLD.adapter), input: ExpectedInput::Any, ..Expectations::default() }
}

/// The bundle's files, one of them exchanged, or left out where there are no bytes for it.
fn judged(name: &str, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Result<Verdict, Refusal> {
    let files = WORLD.files();
    let changed = change(&files[name]);
    let mut files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    match &changed {
        Some(bytes) => files.insert(name, bytes),
        None => files.remove(name),
    };
    verifier().verify(&files, &any()).map(|judged| judged.verdict)
}

fn replay(verifier: &mut Verifier, change: impl FnOnce(&mut PackedBundle)) -> Pending {
    let files = WORLD.files();
    let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let mut sent = PackedBundle::parse(&files, &Limits::NONE).unwrap();
    change(&mut sent);
    verifier.replay(sent, &any(), Deadline::NONE).unwrap()
}

#[test]
fn a_weight_has_as_many_entries_as_its_shape_says() {
    for change in [|values: &mut Vec<f32>| values.push(0.0), |values: &mut Vec<f32>| values.truncate(values.len() - 1)]
    {
        let mut changed = WORLD.weights.clone();
        let name = changed.keys().next().unwrap().clone();
        change(&mut changed.get_mut(&name).unwrap().1);
        let refused = world::read(&WORLD.network, &changed).err().map(|error| error.to_string()).unwrap();
        assert!(refused.starts_with(&format!("{name} cannot have this shape")), "{refused}");
    }
}

#[test]
fn what_was_proved_is_valid() {
    let verdict = judged(DELTAS, |bytes| Some(bytes.to_vec())).unwrap();
    assert!(verdict.is_valid());
    assert_eq!(verdict.missing, [Missing::Task]);
    let verdict = judged(REGISTRATION, |_| None).unwrap();
    assert_eq!(verdict.missing, [Missing::Registration, Missing::Task]);
}

/// One decoder of zstd everywhere: what its frames say of themselves is held to.
#[test]
fn deltas_are_one_frame_with_a_checksum_that_holds() {
    let refused = |change: &dyn Fn(&[u8]) -> Vec<u8>| judged(DELTAS, |bytes| Some(change(bytes))).unwrap_err();
    let again = |bytes: &[u8], checksum: bool| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 19).unwrap();
        encoder.include_checksum(checksum).unwrap();
        std::io::copy(&mut &*zstd::decode_all(bytes).unwrap(), &mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    assert!(judged(DELTAS, |bytes| Some(again(bytes, false))).is_ok());
    assert!(judged(DELTAS, |bytes| Some(again(bytes, true))).is_ok());
    let wrong_sum = |bytes: &[u8]| {
        let mut frame = again(bytes, true);
        *frame.last_mut().unwrap() ^= 1;
        frame
    };
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    for change in [
        &wrong_sum as &dyn Fn(&[u8]) -> Vec<u8>,
        &|bytes| [bytes, &[0]].concat(),
        &|bytes| [bytes, bytes].concat(),
        &|bytes| [&skippable, bytes].concat(),
        &|bytes| bytes[..bytes.len() - 1].to_vec(),
        &|_| Vec::new(),
        &|bytes| {
            zstd::encode_all([&zstd::decode_all(bytes).unwrap()[..], &[0; 1 << 20]].concat().as_slice(), 3).unwrap()
        },
    ] {
        assert_eq!(refused(change).check(), DELTAS);
    }
}

#[test]
fn what_another_verifier_replayed_is_judged_all_the_same() {
    let mut first = verifier();
    // It has derived no key yet, and has seen no registration.
    let mut second = verifier();
    let honest = replay(&mut first, |_| {});
    let wrong = replay(&mut first, |sent| match &mut sent.proof {
        // Behind the points that are looked at before a replay.
        Proof::Open { proof, .. } => proof.proof[70] ^= 1,
        Proof::Sealed { .. } => unreachable!("it was proved in open mode"),
    });
    let verdicts = second.settle(vec![honest, wrong]);
    assert_eq!(verdicts[0].as_ref().unwrap().verdict.missing, [Missing::Task]);
    assert!(matches!(verdicts[1], Err(Refusal::Check(CheckFailed::DeltaProof))), "{:?}", verdicts[1]);
}

#[test]
fn proofs_are_left_when_their_time_is_up_and_others_are_judged() {
    let mut judge = verifier();
    let late = replay(&mut judge, |_| {}).within(Duration::ZERO);
    let patient = replay(&mut judge, |_| {});
    let verdicts = judge.settle(vec![late, patient]);
    assert!(matches!(verdicts[0], Err(Refusal::Time(Stage::Proofs))), "{:?}", verdicts[0]);
    assert!(verdicts[1].is_ok(), "{:?}", verdicts[1]);
    // A registration that no other bundle brings is left with its bundle.
    let late = replay(&mut judge, |_| {}).within(Duration::ZERO);
    let mut fresh = verifier();
    assert!(matches!(fresh.settle(vec![late]).swap_remove(0), Err(Refusal::Time(Stage::Proofs))));
    assert!(!fresh.has_registered(WORLD.adapter));
    assert!(judge.has_registered(WORLD.adapter));
}

#[test]
fn the_replay_ends_at_the_deadline() {
    let Bundle { statement, commitment, deltas, .. } = &WORLD.bundle;
    let about = (statement, commitment, None);
    let late = replayed(&WORLD.model(), about, deltas.clone(), Deadline::after(Duration::ZERO));
    assert!(matches!(late, Err(Refusal::Time(Stage::Replay))), "{late:?}");
    assert!(replayed(&WORLD.model(), about, deltas.clone(), Deadline::NONE).is_ok());
}
