//! Each check on its own, and the format from its document alone.

use serde_json::Value;

use super::*;

/// The check that refuses an honest run of which the transcript's lines are changed and chained anew.
fn rechained(change: impl FnOnce(&mut Transcript)) -> (&'static str, Option<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    let mut changed = transcript(folder.path());
    change(&mut changed);
    rewrite(folder.path(), &changed, &changed.steps, changed.end);
    refused(&run, &ALL)
}

/// The check that refuses an honest run of which this file's bytes are changed.
fn edited(file: impl FnOnce(&Path) -> PathBuf, change: impl FnOnce(&mut Vec<u8>)) -> (&'static str, Option<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    let path = file(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    refused(&run, &ALL)
}

/// Who refuses a run that is honest in all but what this check is about; `None` for those of the command.
fn broken(check: TranscriptCheck) -> Option<(&'static str, Option<u64>)> {
    let other = || blake3::hash(b"other");
    // Not of a kept state, so that nothing but computing it again says otherwise.
    let says = |change: fn(&mut StepRecord)| {
        rechained(|transcript| {
            let record = &mut transcript.steps[4];
            change(record);
        })
    };
    Some(match check {
        TranscriptCheck::Form => edited(|out| out.join(TRANSCRIPT), |bytes| bytes.insert(0, b'\n')),
        TranscriptCheck::Chain => edited(
            |out| out.join(TRANSCRIPT),
            |bytes| {
                let at = bytes.len() - 5;
                bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            },
        ),
        TranscriptCheck::Steps => rechained(|transcript| transcript.steps[4].step = 6),
        TranscriptCheck::Run => rechained(|transcript| transcript.head.identity.digest[0] ^= 1),
        TranscriptCheck::Seed => rechained(|transcript| transcript.head.seed += 1),
        TranscriptCheck::Length => rechained(|transcript| transcript.head.steps += 1),
        TranscriptCheck::Data => rechained(|transcript| transcript.head.data = other()),
        TranscriptCheck::Start => rechained(|transcript| transcript.head.values = other()),
        TranscriptCheck::Rows => says(|record| record.rows = blake3::hash(b"other")),
        TranscriptCheck::Rate => says(|record| record.rate += 1),
        TranscriptCheck::Figures => says(|record| record.figures = blake3::hash(b"other")),
        TranscriptCheck::End => rechained(|transcript| transcript.end = Some(TranscriptEnd { ended: 9, result: 8 })),
        TranscriptCheck::State => edited(|out| state_file(out, 4), |bytes| *bytes.last_mut().unwrap() ^= 1),
        TranscriptCheck::Bound => {
            let jump = |step: u64, slots: &mut [Slot]| slots[0].value[2] += if step == 5 { 3.0 } else { 0.0 };
            Forger { state: &jump, ..HONEST }.found_in(&steps([]))
        }
        TranscriptCheck::Gradients => says(|record| record.gradients = blake3::hash(b"other")),
        TranscriptCheck::Values => says(|record| record.after.values = blake3::hash(b"other")),
        TranscriptCheck::First => says(|record| record.after.first = blake3::hash(b"other")),
        TranscriptCheck::Second => says(|record| record.after.second = blake3::hash(b"other")),
        // `tests/ftk/audit.rs`
        TranscriptCheck::Root | TranscriptCheck::Result => return None,
    })
}

#[test]
fn each_check_refuses_what_fails_nothing_else() {
    for check in TranscriptCheck::ALL {
        if let Some((name, step)) = broken(check) {
            assert_eq!(name, check.name());
            let whole = [
                TranscriptCheck::Form,
                TranscriptCheck::Run,
                TranscriptCheck::Seed,
                TranscriptCheck::Length,
                TranscriptCheck::Data,
                TranscriptCheck::Start,
            ];
            let due = match check {
                _ if whole.contains(&check) => None,
                TranscriptCheck::Chain => Some(10),
                TranscriptCheck::End => Some(8),
                TranscriptCheck::State => Some(4),
                TranscriptCheck::Bound => Some(6),
                _ => Some(5),
            };
            assert_eq!(step, due, "{name}");
        }
    }
}

#[test]
fn checks_are_named_once_and_in_the_document() {
    let document = include_str!("../../TRANSCRIPT.md");
    let mut names: Vec<&str> = TranscriptCheck::ALL.iter().map(|check| check.name()).collect();
    assert!(names.iter().all(|name| document.contains(&format!("`{name}`"))), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TranscriptCheck::ALL.len());
}

#[test]
fn figures_that_are_false_and_said_to_be_so_are_found_by_computing() {
    let better = |step: u64, line: &mut String| {
        if step == 5 {
            *line = line.replacen("\"loss\":", "\"loss\":0", 1).replacen("\"loss\":00", "\"loss\":0", 1);
            assert!(line.contains("\"loss\":0"));
            *line = line.replacen("\"grad_norm\":", "\"grad_norm\":1", 1);
        }
    };
    let forger = Forger { line: &better, ..HONEST };
    assert_eq!(forger.found(), ("figures", Some(5)));
    let folder = tempfile::tempdir().unwrap();
    forger.forge(&Pull::new(20), &kept(folder.path()));
    match audited(&Pull::new(20), &kept(folder.path()), &ALL) {
        Err(AuditError::Refused(refused)) => assert!(refused.computed, "{refused}"),
        other => panic!("{other:?}"),
    }
    // Without computing that step nobody can tell.
    audited(&Pull::new(20), &kept(folder.path()), &steps([4, 9])).unwrap();
    // A line that is another than the transcript says needs no computing.
    let folder = tempfile::tempdir().unwrap();
    go(&Pull::new(20), &kept(folder.path()), Start::Fresh).unwrap();
    let metrics = folder.path().join(METRICS);
    let text = std::fs::read_to_string(&metrics).unwrap();
    std::fs::write(&metrics, text.replacen("\"grad_norm\":", "\"grad_norm\":1", 1)).unwrap();
    match audited(&Pull::new(20), &kept(folder.path()), &ALL) {
        Err(AuditError::Refused(refused)) => {
            assert_eq!((refused.check, refused.step, refused.computed), (TranscriptCheck::Figures, Some(1), false));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_end_that_is_not_that_of_its_steps_is_said_in_words() {
    let said = |change: &dyn Fn(&mut Transcript)| {
        let folder = tempfile::tempdir().unwrap();
        go(&Pull::new(20), &kept(folder.path()), Start::Fresh).unwrap();
        let mut changed = transcript(folder.path());
        change(&mut changed);
        rewrite(folder.path(), &changed, &changed.steps, changed.end);
        match open(&folder.path().join(TRANSCRIPT)) {
            Err(AuditError::Refused(refused)) => refused.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let end = |ended, result| Some(TranscriptEnd { ended, result });
    for (change, says) in [
        (end(8, 8), "step 9: steps: line 11: the end is said to be after step 8, and there are 9"),
        (end(9, 10), "step 10: steps: line 11: the result is said to be the state after step 10, and there are 9"),
        (end(9, 0), "step 0: steps: line 11: the result is said to be the state after step 0, and there are 9"),
    ] {
        assert_eq!(said(&|transcript| transcript.end = change), says);
    }
    let says = "step 8: steps: line 10: the head says 8 steps, and there are 9";
    assert_eq!(said(&|transcript| transcript.head.steps = 8), says);
}

#[test]
fn the_state_of_a_checkpoint_is_taken_where_its_step_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    // That of a step between two that are kept, as after a copy of files from different times.
    let other = tempfile::tempdir().unwrap();
    let every = Run { state_every: 1, ..kept(other.path()) };
    go(&Pull::new(20), &every, Start::Fresh).unwrap();
    std::fs::copy(state_file(other.path(), 5), folder.path().join(FILE)).unwrap();
    let found = audited(&Pull::new(20), &run, &steps([6])).unwrap();
    assert_eq!((found.kept, found.computed), (vec![2, 4, 5, 6, 8], [6].into()));
    std::fs::copy(state_file(other.path(), 4), folder.path().join(FILE)).unwrap();
    assert_eq!(audited(&Pull::new(20), &run, &steps([6])).unwrap().kept, [2, 4, 6, 8]);
}

#[test]
fn every_digest_is_that_of_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let run = kept(folder.path());
    go(&Pull::new(20), &run, Start::Fresh).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let lines: Vec<Value> = read(TRANSCRIPT).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Bytes of a line's fields as the table of digests has them.
    let bytes = |value: &Value, kind: &str| match kind {
        "hash" => Hash::from_hex(value.as_str().unwrap()).unwrap().as_bytes().to_vec(),
        "text" => {
            let text = value.as_str().unwrap();
            [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
        }
        "bits" => u64::from_str_radix(value.as_str().unwrap(), 16).unwrap().to_le_bytes().to_vec(),
        _ => value.as_u64().unwrap().to_le_bytes().to_vec(),
    };
    let digest = |context: &str, parts: &[Vec<u8>]| {
        Hasher::new_derive_key(&format!("ftk transcript 1 {context}")).update(&parts.concat()).finalize()
    };
    let head: &[_] = &[
        ("arithmetic", "text"),
        ("run", "hash"),
        ("seed", "u64"),
        ("steps", "u64"),
        ("data", "hash"),
        ("values", "hash"),
    ];
    let step: &[_] = &[
        ("step", "u64"),
        ("rows", "hash"),
        ("rate", "bits"),
        ("figures", "hash"),
        ("gradients", "hash"),
        ("values", "hash"),
        ("first", "hash"),
        ("second", "hash"),
    ];
    let end: &[_] = &[("ended", "u64"), ("result", "u64")];
    let mut before = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let (context, fields) = match at {
            0 => ("head", head),
            10 => ("end", end),
            _ => ("step", step),
        };
        let own = fields.iter().map(|(name, kind)| bytes(&line[*name], kind));
        let own = digest(context, &std::iter::once(before).chain(own).collect::<Vec<_>>());
        assert_eq!(line["chain"], own.to_hex().as_str(), "line {}", at + 1);
        before = own.as_bytes().to_vec();
    }
    assert_eq!(lines.len(), 11);
    // Leaves and roots, from the state that the checkpoint holds.
    let state = std::fs::read(folder.path().join(FILE)).unwrap();
    let state = safetensors::SafeTensors::deserialize(&state).unwrap();
    for (key, part) in [("values", "value"), ("first", "first"), ("second", "second")] {
        let numbers = state.tensor(&format!("{part}/weight")).unwrap();
        let leaf = digest(
            "leaf",
            &[
                bytes(&"weight".into(), "text"),
                (numbers.data().len() as u64 / 4).to_le_bytes().to_vec(),
                numbers.data().to_vec(),
            ],
        );
        let root = digest("root", &[1u64.to_le_bytes().to_vec(), leaf.as_bytes().to_vec()]);
        assert_eq!(lines[9][key], root.to_hex().as_str(), "{key}");
    }
    // Three leaves: the third goes up alone.
    let leaves = [b"a", b"b", b"c"].map(|name| blake3::hash(name));
    let [a, b, c] = leaves.map(|leaf| leaf.as_bytes().to_vec());
    let top = digest("node", &[digest("node", &[a, b]).as_bytes().to_vec(), c]);
    let root = digest("root", &[3u64.to_le_bytes().to_vec(), top.as_bytes().to_vec()]);
    assert_eq!(transcript::root(leaves.to_vec()), root);
    // Figures are the bytes of their line, line feed included.
    let figures = read(METRICS);
    let line = figures.split_inclusive('\n').next().unwrap();
    assert_eq!(lines[1]["figures"], digest("figures", &[line.as_bytes().to_vec()]).to_hex().as_str());
}
