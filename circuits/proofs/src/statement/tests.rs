//! Statements of all kinds: their bytes and their rules.

use std::collections::HashSet;

use ftk_circuits::{EncodingError, Reader};

use super::*;
use crate::bounds::{MAX_CHOICES, MAX_LOGITS, MAX_NAME, MAX_STOP_IDS, MAX_TOKENS};
use crate::outputs::{AtLeast, Choice, Completion, Likely, LogProb, Logits, Preference, ScoredContinuation, Top};

const BASE: Digest = Digest([7; 32]);
const ROWS: usize = 3;
/// Least bytes of a case: two kinds, and the length of an input.
const MIN_CASE_BYTES: usize = 6;

/// Reads the canonical bytes: that this can be done shows that no two statements share them.
fn decode(bytes: &[u8]) -> Result<Statement, EncodingError> {
    let StatementBytes { base, adapter, said } = StatementBytes::decode(bytes)?;
    let mut reader = Reader::new(&said);
    let context_len = reader.count("context", MAX_CONTEXT, 1)?;
    let context = reader.take(context_len)?.to_vec();
    let count = reader.count("cases", MAX_CASES, MIN_CASE_BYTES)?;
    let case = |reader: &mut Reader<'_>| Ok(Case { input: Input::take(reader)?, output: Output::take(reader)? });
    let cases = (0..count).map(|_| case(&mut reader)).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Statement { base, adapter, context, cases })
}

/// A statement of three rows, all of one completion.
fn statement(adapter: Digest) -> Statement {
    let output = Completion { ids: vec![8, 9], max_tokens: 4, stop_ids: vec![2, 9] }.into();
    let cases = vec![Case { input: Input::Tokens(vec![5, 6]), output }];
    Statement { base: BASE, adapter, context: b"nonce".to_vec(), cases }
}

/// Statements of three rows that differ in one field each from one another, over all kinds of outputs.
fn changed_statements(statement: &Statement) -> Vec<(&'static str, Statement)> {
    let with = |input: &[u32], output| Statement {
        cases: vec![Case { input: Input::Tokens(input.to_vec()), output }],
        ..statement.clone()
    };
    let completion = |ids: &[u32], max_tokens, stop_ids: &[u32]| {
        Output::from(Completion { ids: ids.to_vec(), max_tokens, stop_ids: stop_ids.to_vec() })
    };
    let log_prob = |ids: &[u32], log_prob| Output::from(LogProb { ids: ids.to_vec(), log_prob });
    let scored = |id, log_prob, base_log_prob| ScoredContinuation { ids: vec![id], log_prob, base_log_prob };
    let preference = |chosen, rejected| Output::from(Preference { chosen, rejected });
    let choice = |among: &[u32], chosen| Output::from(Choice { among: among.to_vec(), chosen });
    let logits = Output::Logits;
    let at_least = |id, bound, holds| Output::from(AtLeast { id, bound, holds });
    let top = |likeliest: &[(u32, i64)]| {
        let likely = |&(id, log_prob): &(u32, i64)| Likely { id, log_prob };
        Output::from(Top { likeliest: likeliest.iter().map(likely).collect() })
    };
    let two = |first, second| Statement { cases: vec![first, second], ..statement.clone() };
    let alone = |ids: &[u32]| Case { input: Input::Tokens(ids.to_vec()), output: choice(&[1, 2], 1) };
    vec![
        ("base", Statement { base: Digest([8; 32]), ..statement.clone() }),
        ("adapter", Statement { adapter: Digest([8; 32]), ..statement.clone() }),
        ("context", Statement { context: b"noncf".to_vec(), ..statement.clone() }),
        ("context longer", Statement { context: b"nonce\0".to_vec(), ..statement.clone() }),
        ("input", with(&[5, 7], completion(&[8, 9], 4, &[2, 9]))),
        ("boundary", with(&[5, 6, 8], completion(&[9], 4, &[2, 9]))),
        ("output", with(&[5, 6], completion(&[7, 9], 4, &[2, 9]))),
        ("max_tokens", with(&[5, 6], completion(&[8, 9], 5, &[2, 9]))),
        ("stop ids", with(&[5, 6], completion(&[8, 9], 4, &[3, 9]))),
        ("stop ids fewer", with(&[5, 6], completion(&[8, 9], 4, &[9]))),
        ("logits", with(&[5, 6, 8], logits(Logits::Values(vec![1, 2])))),
        ("one logit", with(&[5, 6, 8], logits(Logits::Values(vec![1, 3])))),
        ("fewer logits", with(&[5, 6, 8], logits(Logits::Values(vec![1])))),
        ("digest of logits", with(&[5, 6, 8], logits(Logits::Digest(Digest([1; 32]))))),
        ("another digest", with(&[5, 6, 8], logits(Logits::Digest(Digest([2; 32]))))),
        ("log-probability", with(&[5, 6], log_prob(&[8, 9], -7))),
        ("its value", with(&[5, 6], log_prob(&[8, 9], -8))),
        ("its ids", with(&[5, 6], log_prob(&[8, 10], -7))),
        ("preference", with(&[5, 6], preference(scored(8, -1, -2), scored(9, -3, -4)))),
        ("chosen", with(&[5, 6], preference(scored(7, -1, -2), scored(9, -3, -4)))),
        ("of the chosen", with(&[5, 6], preference(scored(8, 0, -2), scored(9, -3, -4)))),
        ("of the chosen, base", with(&[5, 6], preference(scored(8, -1, -1), scored(9, -3, -4)))),
        ("rejected", with(&[5, 6], preference(scored(8, -1, -2), scored(7, -3, -4)))),
        ("of the rejected", with(&[5, 6], preference(scored(8, -1, -2), scored(9, -2, -4)))),
        ("of the rejected, base", with(&[5, 6], preference(scored(8, -1, -2), scored(9, -3, -3)))),
        ("choice", with(&[5, 6, 8], choice(&[1, 2], 1))),
        ("choice of another", with(&[5, 6, 8], choice(&[1, 2], 2))),
        ("choice among others", with(&[5, 6, 8], choice(&[1, 3], 1))),
        ("choice among more", with(&[5, 6, 8], choice(&[1, 2, 3], 1))),
        ("likelihood", with(&[5, 6, 8], at_least(1, -9, true))),
        ("likelihood of another", with(&[5, 6, 8], at_least(2, -9, true))),
        ("likelihood above another", with(&[5, 6, 8], at_least(1, -8, true))),
        ("likelihood that is less", with(&[5, 6, 8], at_least(1, -9, false))),
        ("likeliest", with(&[5, 6, 8], top(&[(1, -9), (2, -9)]))),
        ("another likeliest", with(&[5, 6, 8], top(&[(1, -9), (3, -9)]))),
        ("fewer likeliest", with(&[5, 6, 8], top(&[(1, -9)]))),
        ("less likely", with(&[5, 6, 8], top(&[(1, -9), (2, -10)]))),
        ("two cases", two(alone(&[5, 6]), alone(&[8]))),
        ("two cases divided otherwise", two(alone(&[5]), alone(&[6, 8]))),
        ("two cases in another order", two(alone(&[8]), alone(&[5, 6]))),
    ]
}

/// The same over nodes of graphs, whose rows are no matter of the statement.
fn changed_nodes(statement: &Statement) -> Vec<(&'static str, Statement)> {
    let of = |graph, nodes: &[u32]| {
        let output = Output::from(Choice { among: vec![1, 2], chosen: 1 });
        let case = |&node: &u32| Case { input: Input::Node { graph, node }, output: output.clone() };
        Statement { cases: nodes.iter().map(case).collect(), ..statement.clone() }
    };
    let graph = Digest([3; 32]);
    vec![
        ("node", of(graph, &[5])),
        ("another node", of(graph, &[6])),
        ("a node of another graph", of(Digest([4; 32]), &[5])),
        ("two nodes", of(graph, &[5, 6])),
        ("two nodes in another order", of(graph, &[6, 5])),
    ]
}

/// The same over pairs of users of a state.
fn changed_pairs(statement: &Statement) -> Vec<(&'static str, Statement)> {
    let of = |state, pairs: &[[&str; 2]], logits: [i64; 2]| {
        let output = Output::from(Logits::Values(logits.to_vec()));
        let case = |pair: &[&str; 2]| Case { input: pair_of(state, *pair), output: output.clone() };
        Statement { cases: pairs.iter().map(case).collect(), ..statement.clone() }
    };
    let state = Digest([3; 32]);
    vec![
        ("pair", of(state, &[["a", "b"]], [5, -6])),
        ("other logits", of(state, &[["a", "b"]], [5, 6])),
        ("a pair the other way round", of(state, &[["b", "a"]], [5, -6])),
        ("a pair of other names", of(state, &[["ab", ""]], [5, -6])),
        ("a pair of another state", of(Digest([4; 32]), &[["a", "b"]], [5, -6])),
        ("two pairs", of(state, &[["a", "b"], ["a", "\u{fc}"]], [5, -6])),
        ("two pairs in another order", of(state, &[["a", "\u{fc}"], ["a", "b"]], [5, -6])),
    ]
}

fn pair_of(state: Digest, [source, target]: [&str; 2]) -> Input {
    Input::Pair { state, source: source.to_owned(), target: target.to_owned() }
}

#[test]
fn statements_round_trip_and_other_bytes_are_refused() {
    let statement = statement(BASE);
    let of_nodes = changed_nodes(&statement)
        .into_iter()
        .chain(changed_pairs(&statement))
        .map(|(what, changed)| (what, changed, 0));
    let of_tokens = changed_statements(&statement).into_iter().map(|(what, changed)| (what, changed, ROWS));
    for (what, changed, rows) in of_tokens.chain(of_nodes) {
        assert_eq!((changed.check(), changed.rows()), (Ok(()), rows), "{what}");
        let bytes = changed.bytes().encode();
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Err(EncodingError::Truncated), "{what}: {cut}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(EncodingError::TrailingBytes(1)));
        assert_eq!(decode(&bytes), Ok(changed));
    }
    let bytes = statement.bytes().encode();
    let cases = 14 + 4 + 64 + 4 + 5;
    let put = |at: usize, with: &[u8]| {
        let mut edited = bytes.clone();
        edited[at..at + with.len()].copy_from_slice(with);
        decode(&edited).unwrap_err()
    };
    assert_eq!(put(cases, &[255; 4]), EncodingError::Bounds { what: "cases", value: u32::MAX.into() });
    assert_eq!(put(cases, &60000u32.to_le_bytes()), EncodingError::Truncated);
    assert_eq!(put(cases + 4, &[3]), EncodingError::Bounds { what: "kind of input", value: 3 });
    assert_eq!(put(cases + 4 + 1 + 12, &[8]), EncodingError::Bounds { what: "kind of output", value: 8 });
    let output = Output::from(AtLeast { id: 1, bound: 0, holds: true });
    let case = Case { input: Input::Tokens(vec![1]), output };
    let mut neither = Statement { cases: vec![case], ..statement.clone() }.bytes().encode();
    *neither.last_mut().unwrap() = 2;
    assert_eq!(decode(&neither), Err(EncodingError::Bounds { what: "yes or no", value: 2 }));
}

#[test]
fn statements_that_contradict_themselves_are_refused() {
    let check = |input: &[u32], output: Output| {
        let case = Case { input: Input::Tokens(input.to_vec()), output };
        match (Statement { cases: vec![case], ..statement(BASE) }).check() {
            Ok(()) => Ok(()),
            Err(StatementError::Case { case: 0, error }) => Err(error),
            Err(other) => panic!("{other}"),
        }
    };
    let with = |ids: &[u32], max_tokens, stop_ids: &[u32]| {
        check(&[5, 6], Completion { ids: ids.to_vec(), max_tokens, stop_ids: stop_ids.to_vec() }.into())
    };
    assert_eq!(with(&[1, 2], 2, &[]), Ok(()));
    assert_eq!(with(&[], 2, &[]), Err(CaseError::Empty("completion")));
    assert_eq!(with(&[1, 2, 3], 2, &[]), Err(CaseError::TooLong(3)));
    assert_eq!(with(&[1, 2, 3], 3, &[2]), Err(CaseError::AfterStop(1)));
    assert_eq!(with(&[1, 2], 3, &[3]), Err(CaseError::EndsEarly(2)));
    assert_eq!(with(&[1, 2], 2, &[3, 3]), Err(CaseError::Order("stop ids")));

    let choice = |among: &[u32], chosen| check(&[5], Choice { among: among.to_vec(), chosen }.into());
    assert_eq!(choice(&[1, 3], 3), Ok(()));
    assert_eq!(choice(&[1, 3], 2), Err(CaseError::Choice(2)));
    assert_eq!(choice(&[], 2), Err(CaseError::Choice(2)));
    assert_eq!(choice(&[3, 1], 3), Err(CaseError::Order("ids to choose from")));
    assert_eq!(check(&[], Choice { among: vec![1], chosen: 1 }.into()), Err(CaseError::EmptyInput));

    let logits = |values| check(&[5], Output::Logits(Logits::Values(values)));
    assert_eq!(logits(vec![0; MAX_LOGITS as usize]), Ok(()));
    assert_eq!(logits(Vec::new()), Err(CaseError::Empty("logits")));
    assert_eq!(logits(vec![0; 257]), Err(CaseError::Length { what: "logits", len: 257 }));
    assert_eq!(check(&[5], LogProb { ids: Vec::new(), log_prob: 0 }.into()), Err(CaseError::Empty("continuation")));
    let scored = |ids: &[u32]| ScoredContinuation { ids: ids.to_vec(), log_prob: 0, base_log_prob: 0 };
    let preference =
        |chosen, rejected| check(&[5], Preference { chosen: scored(chosen), rejected: scored(rejected) }.into());
    assert_eq!(preference(&[], &[1]), Err(CaseError::Empty("chosen continuation")));
    assert_eq!(preference(&[1], &[]), Err(CaseError::Empty("rejected continuation")));

    // Lists that are one longer than they may be.
    let list = |max: u32| (0..=max).collect::<Vec<u32>>();
    let long = |what, max: u32| Err(CaseError::Length { what, len: max as usize + 1 });
    let chosen_of = |among: Vec<u32>| check(&[5], Choice { among, chosen: 0 }.into());
    assert_eq!(chosen_of(list(MAX_CHOICES - 1)), Ok(()));
    assert_eq!(chosen_of(list(MAX_CHOICES)), long("ids to choose from", MAX_CHOICES));
    let stopped = |stop_ids| check(&[5], Completion { ids: vec![0], max_tokens: 1, stop_ids }.into());
    assert_eq!(stopped(list(MAX_STOP_IDS - 1)), Ok(()));
    assert_eq!(stopped(list(MAX_STOP_IDS)), long("stop ids", MAX_STOP_IDS));
    let (most, more) = (vec![5; MAX_TOKENS as usize], vec![5; MAX_TOKENS as usize + 1]);
    let of_input = |input: &[u32]| check(input, Choice { among: vec![1], chosen: 1 }.into());
    assert_eq!(of_input(&most), Ok(()));
    assert_eq!(of_input(&more), long("input", MAX_TOKENS));
    let continued = |ids: &[u32]| check(&[5], LogProb { ids: ids.to_vec(), log_prob: 0 }.into());
    assert_eq!(continued(&most), Ok(()));
    assert_eq!(continued(&more), long("continuation", MAX_TOKENS));
    assert_eq!(with(&more, u32::MAX, &[]), long("completion", MAX_TOKENS));
    assert_eq!(preference(&more, &[1]), long("chosen continuation", MAX_TOKENS));
    assert_eq!(preference(&[1], &more), long("rejected continuation", MAX_TOKENS));

    let honest = statement(BASE);
    let node = |graph, output| Case { input: Input::Node { graph: Digest([graph; 32]), node: 1 }, output };
    let chosen = || Output::from(Choice { among: vec![1], chosen: 1 });
    let nodes = |cases| Statement { cases, ..statement(BASE) }.check();
    let continued = [
        Output::from(Completion { ids: vec![1], max_tokens: 1, stop_ids: Vec::new() }),
        LogProb { ids: vec![1], log_prob: 0 }.into(),
        Preference { chosen: scored(&[1]), rejected: scored(&[2]) }.into(),
    ];
    for output in continued {
        let error = StatementError::Case { case: 0, error: CaseError::Continued };
        assert_eq!(nodes(vec![node(1, output)]), Err(error));
    }
    assert_eq!(nodes(vec![node(1, chosen()), node(1, chosen())]), Ok(()));
    assert_eq!(nodes(vec![node(1, chosen()), node(2, chosen())]), Err(StatementError::Graphs(1)));
    // Of a pair nothing is stated but its logits, and none stands beside a node, even under one root.
    let pair = |state, output| Case { input: pair_of(Digest([state; 32]), ["a", "b"]), output };
    let logits = || Output::from(Logits::Values(vec![1, 2]));
    assert_eq!(nodes(vec![pair(1, logits()), pair(1, logits())]), Ok(()));
    assert_eq!(nodes(vec![pair(1, logits()), pair(2, logits())]), Err(StatementError::Graphs(1)));
    assert_eq!(nodes(vec![pair(1, logits()), node(1, logits())]), Err(StatementError::Graphs(1)));
    assert_eq!(nodes(vec![node(1, logits()), pair(1, logits())]), Err(StatementError::Graphs(1)));
    let at_least = Output::from(AtLeast { id: 1, bound: 0, holds: true });
    for output in [chosen(), at_least, Top { likeliest: vec![Likely { id: 1, log_prob: 0 }] }.into()] {
        let error = StatementError::Case { case: 0, error: CaseError::OfPair };
        assert_eq!(nodes(vec![pair(1, output)]), Err(error));
    }
    let error = StatementError::Case { case: 0, error: CaseError::Continued };
    assert_eq!(nodes(vec![pair(1, LogProb { ids: vec![1], log_prob: 0 }.into())]), Err(error));
    // In another spelling a known user would be nobody.
    let address = format!("0x{}", "aB".repeat(20));
    let of = |target: &str| Case { input: pair_of(Digest([1; 32]), ["a", target]), output: logits() };
    let error = StatementError::Case { case: 0, error: CaseError::Spelling(address.clone()) };
    assert_eq!(nodes(vec![of(&address)]), Err(error));
    assert_eq!(nodes(vec![of(&address.to_lowercase())]), Ok(()));
    let long = "a".repeat(MAX_NAME as usize + 1);
    for names in [[&long[1..], "b"], [&long, "b"], ["a", &long]] {
        let case = Case { input: pair_of(Digest([1; 32]), names), output: logits() };
        let error = CaseError::Length { what: "name", len: long.len() };
        let fits = names[0].len() < long.len() && names[1].len() < long.len();
        assert_eq!(nodes(vec![case]), if fits { Ok(()) } else { Err(StatementError::Case { case: 0, error }) });
    }
    let tokens = Case { input: Input::Tokens(vec![1]), output: chosen() };
    assert_eq!(nodes(vec![node(1, chosen()), tokens.clone()]), Err(StatementError::Graphs(1)));
    assert_eq!(nodes(vec![tokens, node(1, chosen())]), Err(StatementError::Graphs(1)));
    let long = Statement { context: vec![0; MAX_CONTEXT as usize + 1], ..honest.clone() };
    assert_eq!(long.check(), Err(StatementError::Context(MAX_CONTEXT as usize + 1)));
    let none = Statement { cases: Vec::new(), ..honest.clone() };
    assert_eq!(none.check(), Err(StatementError::Cases(0)));
    let one = Case { input: Input::Tokens(vec![1]), output: chosen() };
    let cases = |count: usize| Statement { cases: vec![one.clone(); count], ..honest.clone() }.check();
    assert_eq!(cases(1 << 16), Ok(()));
    assert_eq!(cases((1 << 16) + 1), Err(StatementError::Cases((1 << 16) + 1)));
    let case = Case { input: Input::Tokens(vec![0; MAX_TOKENS as usize]), output: chosen() };
    let large = Statement { cases: vec![case; 3], ..honest };
    assert_eq!(large.check(), Err(StatementError::Rows(3 << 20)));
}

#[test]
fn a_preference_counts_what_its_continuations_begin_with_once() {
    let rows = |input: &[u32], chosen: &[u32], rejected: &[u32]| {
        let scored = |ids: &[u32]| ScoredContinuation { ids: ids.to_vec(), log_prob: 0, base_log_prob: 0 };
        let output = Preference { chosen: scored(chosen), rejected: scored(rejected) }.into();
        Case { input: Input::Tokens(input.to_vec()), output }.rows()
    };
    // Two sequences of 3 and 4 tokens that begin with 2 alike.
    assert_eq!(rows(&[1, 2], &[3, 4], &[5, 6, 7]), 5);
    assert_eq!(rows(&[1, 2], &[3, 4, 5], &[3, 6, 7]), 5);
    // Each keeps its last token to itself.
    assert_eq!(rows(&[1, 2], &[3], &[4]), 3);
    assert_eq!(rows(&[1, 2], &[3, 4], &[3, 4, 5]), 5);
    assert_eq!(rows(&[1], &[3], &[4]), 2);
}

#[test]
fn no_two_statements_share_a_digest_or_a_text() {
    let statement = statement(BASE);
    let all = changed_statements(&statement).into_iter().chain(changed_nodes(&statement));
    let all = all.chain(changed_pairs(&statement));
    let (mut digests, mut texts) = (HashSet::new(), HashSet::new());
    for (what, changed) in all.chain([("honest", statement.clone())]) {
        assert!(digests.insert(changed.bytes().digest()), "{what}");
        let text = text::text(&changed);
        assert_eq!(text::parse(text.as_bytes()), Ok(changed), "{what}");
        assert!(texts.insert(text), "{what}");
    }
}

/// Whoever uses the library may compare what was never replayed, and ask of a completion that is too long.
#[test]
fn outputs_that_were_never_checked_are_no_panic() {
    let statement = statement(BASE);
    let outputs: Vec<Output> = changed_statements(&statement)
        .into_iter()
        .flat_map(|(_, changed)| changed.cases)
        .map(|case| case.output)
        .collect();
    for one in &outputs {
        for other in &outputs {
            assert_eq!(one.difference(other).is_none(), one == other);
        }
    }
    let long = Completion { ids: vec![1, 2, 3], max_tokens: 2, stop_ids: Vec::new() };
    assert_eq!(long.left(), 0);
}
