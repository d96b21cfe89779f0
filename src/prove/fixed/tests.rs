use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use ftk_adapters::lora;
use ftk_adapters::weights::Weights;
use ftk_circuits::fixed::FixedError;
use ftk_gnn::{initial, inputs};
use ftk_kernels::grid::{self, GridError};
use ftk_networks::graphs::{GraphNetwork, Hop};
use ftk_networks::graphs::{GraphNetworkKind, Head};
use ftk_networks::ops::graph::Features;
use ftk_networks::ops::{Heads, Rope, Tokens};
use ftk_networks::sites::{Role, Site};
use ftk_networks::{Gpt2, Llama, LlamaVariant, Network};
use ftk_proofs::fixed::{Adaptation, Fixed, SiteDeltas, SiteRecord};
use ftk_proofs::read::LogitsRow;

use super::reference::FloatOracle;
use super::*;

/// A network small enough to run in a moment, with grouped heads and a tied head.
fn llama(family: LlamaVariant) -> Network {
    Network::Llama(Llama {
        family,
        vocab: 40,
        hidden: 24,
        intermediate: 36,
        layers: 2,
        heads: Heads { query: 4, key_value: 2, dim: 6 },
        rope: Rope { dim: 6, theta: 10_000.0, scaling: None },
        eps: 1e-5,
        tied: true,
        context: 64,
    })
}

fn small() -> Network {
    llama(LlamaVariant::Llama)
}

fn gpt2() -> Network {
    Network::Gpt2(Gpt2 {
        vocab: 40,
        hidden: 24,
        intermediate: 36,
        layers: 2,
        heads: 4,
        eps: 1e-5,
        tied: true,
        context: 20,
    })
}

/// Values in `[-peak, peak)` that are multiples of `peak * 2^-15`, from a linear congruence.
fn values(state: &mut u64, count: usize, peak: f32) -> Vec<f32> {
    let next = |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from((*state >> 48) as u16 as i16) / 32768.0 * peak
    };
    (0..count).map(next).collect()
}

fn weights(network: &Network) -> Weights {
    let mut state = 7;
    let shapes = network.shapes();
    let names = |site: Site| {
        let bias = site.bias.then(|| format!("{}.bias", site.name));
        std::iter::once(format!("{}.weight", site.weight)).chain(bias)
    };
    let tensor = |name: String| {
        let shape = shapes[&name].as_slice();
        let tensor = Tensor::from_vec(values(&mut state, shape.iter().product(), 0.5), shape, &Device::Cpu).unwrap();
        (name, tensor)
    };
    network.sites().into_iter().filter(|site| site.role != Role::Head).flat_map(names).map(tensor).collect()
}

fn tokens() -> Tokens {
    Tokens::sequence((0..20).map(|i| i * 17 % 40).collect())
}

fn adapter() -> Adapter {
    let (mut state, hidden) = (11, 24);
    let mut factors = |d_out| {
        let grid = |values: Vec<f32>| grid::to_grid(&values).unwrap();
        let (a, b) = (values(&mut state, 2 * hidden, 0.3), values(&mut state, d_out * 2, 0.3));
        lora::Factors { rank: 2, d_in: hidden, d_out, a: grid(a), b: grid(b), scale: 1.0 }
    };
    let q = ("model.layers.1.self_attn.q_proj".to_owned(), factors(24));
    let v = ("model.layers.0.self_attn.v_proj".to_owned(), factors(12));
    Adapter { sites: [q, v].into_iter().collect() }
}

/// Runs a network as floats and as integers and compares the logits. Usable on any network.
fn agreement(
    weights: &Weights,
    sites: &[Site],
    float: impl FnOnce(&mut FloatOracle) -> Result<reference::FloatRows, WeightsError>,
    fixed: impl FnOnce(&mut Fixed) -> Result<Activations, PassError>,
) -> Agreement {
    let base = of_weights(weights, sites).unwrap();
    let fixed = fixed(&mut Fixed::new(&base, Adaptation::Base)).unwrap();
    let float: Vec<f32> = float(&mut FloatOracle(weights)).unwrap().concat().into_iter().map(|x| x as f32).collect();
    Agreement::of(&fixed, &float).unwrap()
}

#[test]
fn integers_agree_with_floats() {
    for network in [small(), llama(LlamaVariant::Qwen2), llama(LlamaVariant::Qwen3), gpt2()] {
        let rows: Vec<usize> = (0..20).collect();
        let got = agreement(
            &weights(&network),
            &network.sites(),
            |ops| network.forward(ops, &tokens(), &rows),
            |ops| network.forward(ops, &tokens(), &rows),
        );
        assert_eq!(got.top1, 1.0, "{network:?}");
        assert!(got.log_prob < 2e-3, "mean absolute difference of log-probabilities: {}", got.log_prob);
    }
}

/// A graph of thirty nodes with features and messages for two convolutions.
fn graph(kind: GraphNetworkKind) -> (GraphNetwork, Arc<Features>, Vec<Hop>) {
    let mut lists = vec![Vec::new(); 30];
    for a in 0..30u32 {
        for b in [(a * 7 + 3) % 30, (a * a + 1) % 30] {
            if a != b {
                lists[a as usize].push(b);
                lists[b as usize].push(a);
            }
        }
    }
    lists.iter_mut().for_each(|list: &mut Vec<u32>| {
        list.sort_unstable();
        list.dedup();
    });
    let network = GraphNetwork::new(kind, [12, 8, 2, 1], Head::Linear, 5);
    let features = Features::new(12, values(&mut 5, 30 * 12, 1.0));
    (network, Arc::new(features), inputs::hops(kind, 2, &lists))
}

#[test]
fn integers_agree_with_floats_on_graphs() {
    for kind in [GraphNetworkKind::Gcn, GraphNetworkKind::Sage, GraphNetworkKind::SageGcn] {
        let (network, features, hops) = graph(kind);
        let weights = initial::fresh(&network, 3, &Device::Cpu).unwrap();
        let rows: Vec<usize> = (0..30).collect();
        let got = agreement(
            &weights,
            &network.sites(),
            |ops| network.classify(ops, &features, &hops, &rows),
            |ops| network.classify(ops, &features, &hops, &rows),
        );
        assert_eq!(got.top1, 1.0, "{kind:?}");
        assert!(got.log_prob < 2e-4, "{kind:?}: mean absolute difference of log-probabilities: {}", got.log_prob);
    }
}

#[test]
fn attention_over_neighbours_is_refused_by_name() {
    let (network, ..) = graph(GraphNetworkKind::Gat);
    let weights = initial::fresh(&network, 3, &Device::Cpu).unwrap();
    let error = of_weights(&weights, &network.sites()).unwrap_err();
    assert!(matches!(error, WeightsError::Fixed(PassError::Neighbours(site)) if site == "conv1"));
}

#[test]
fn what_enters_a_convolution_is_what_was_gathered() {
    let (network, features, hops) = graph(GraphNetworkKind::Gcn);
    let weights = initial::fresh(&network, 3, &Device::Cpu).unwrap();
    let base = of_weights(&weights, &network.sites()).unwrap();
    let grid = |values: Vec<f32>| grid::to_grid(&values).unwrap();
    let (a, b) = (grid(values(&mut 1, 2 * 12, 0.3)), grid(values(&mut 2, 8 * 2, 0.3)));
    let factors = lora::Factors { rank: 2, d_in: 12, d_out: 8, a, b, scale: 1.0 };
    let adapter = of_adapter(&Adapter { sites: [("conv1.lin".to_owned(), factors)].into() }).unwrap();
    let mut ops = Fixed::new(&base, Adaptation::Factors(&adapter));
    network.classify(&mut ops, &features, &hops, &[4]).unwrap();
    let records = ops.into_records().unwrap();
    assert_eq!((records.len(), records[0].inputs.len(), records[0].deltas.len()), (1, 30 * 12, 30 * 8));
    // The first gathered feature of node 4, in floating point.
    let gathered: f64 = (hops[0].gather.coefficients().row(4))
        .map(|(sender, share)| f64::from(share) / f64::from(1 << 30) * f64::from(features.row(sender as usize)[0]))
        .sum();
    assert!((f64::from(records[0].inputs[4 * 12]) / 65536.0 - gathered).abs() < 1e-4);
}

fn run(llama: &Network, adaptation: Adaptation) -> (Activations, Result<Vec<SiteRecord>, PassError>) {
    let base = of_weights(&weights(llama), &llama.sites()).unwrap();
    let mut ops = Fixed::new(&base, adaptation);
    let logits = llama.forward(&mut ops, &tokens(), &[3, 19]).unwrap();
    (logits, ops.into_records())
}

#[test]
fn logits_are_pinned() {
    let adapter = of_adapter(&adapter()).unwrap();
    let adapted = Adaptation::Factors(&adapter);
    let digest = |network: Network, adaptation| {
        let (logits, _) = run(&network, adaptation);
        let bytes: Vec<u8> = logits.entries.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    };
    let digests = [
        digest(small(), Adaptation::Base),
        digest(small(), adapted),
        digest(llama(LlamaVariant::Qwen2), adapted),
        digest(llama(LlamaVariant::Qwen3), adapted),
        digest(gpt2(), Adaptation::Base),
    ];
    let expected = [
        "6a41ad0d6254d9dd0f268c969761630d2f7c01121d5dc7ef72adc603a45f32cf",
        "8b397e802e11d74e6633175697533716392fd4b722df7fbf1dbcfe8b027f646f",
        "704604338fe8fc1f4277c070d8209f326334eeb7a24a0ee8df878dffa63ae88d",
        "a3b45063a74b725b83e546f1f886a36aaffb4388f5de5bc0b038cc616a6ae3bb",
        "054a34677bb85396350b2e67829281dc7ebd51819de7ef1374686957e5103fb3",
    ];
    assert_eq!(digests, expected);
}

#[test]
fn a_replay_with_the_deltas_sees_what_the_prover_saw() {
    let llama = small();
    let adapter = of_adapter(&adapter()).unwrap();
    let (logits, records) = run(&llama, Adaptation::Factors(&adapter));
    let records = records.unwrap();
    let order: Vec<&str> = records.iter().map(|record| record.site.as_str()).collect();
    assert_eq!(order, ["model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.q_proj"]);
    assert_ne!(logits, run(&llama, Adaptation::Base).0);

    let deltas: BTreeMap<String, SiteDeltas> = records
        .iter()
        .map(|SiteRecord { site, deltas, .. }| {
            let factors = &adapter.sites[site];
            let deltas = SiteDeltas { rank: factors.rank(), shift: factors.shift(), deltas };
            (site.clone(), deltas)
        })
        .collect();
    let (replayed, replay) = run(&llama, Adaptation::Deltas(&deltas));
    assert_eq!(replayed, logits);
    let inputs = |records: &[SiteRecord]| records.iter().map(|record| record.inputs.clone()).collect::<Vec<_>>();
    assert_eq!(inputs(&replay.unwrap()), inputs(&records));

    let mut extra = deltas;
    let any = extra.values().next().unwrap().clone();
    extra.insert("model.layers.9.mlp.up_proj".into(), any);
    let (_, replay) = run(&llama, Adaptation::Deltas(&extra));
    assert!(matches!(replay, Err(PassError::Unvisited(site)) if site == "model.layers.9.mlp.up_proj"));
}

#[test]
fn only_exported_adapters_are_taken() {
    let site = "model.layers.0.self_attn.v_proj";
    let changed = |change: fn(&mut lora::Factors)| {
        let mut adapter = adapter();
        change(adapter.sites.get_mut(site).unwrap());
        of_adapter(&adapter)
    };
    assert!(matches!(changed(|f| f.scale = 2.0), Err(PassError::Scale { site: s, scale: 2.0 }) if s == site));
    assert!(matches!(changed(|f| f.b[5] = 0.1), Err(PassError::OffGrid { factor: 'B', index: 5, .. })));
    assert!(matches!(changed(|f| f.a[2] = f32::NAN), Err(PassError::Grid { error: GridError::NotFinite(2), .. })));
    assert!(matches!(
        changed(|f| f.rank = 3),
        Err(PassError::Fixed(FixedError::Shape { what: "adapter factor A", .. }))
    ));
}

/// Every sequence alone gives the logits, inputs and deltas that it gives among others.
#[test]
fn sequences_do_not_see_each_other() {
    let adapter = of_adapter(&adapter()).unwrap();
    for network in [llama(LlamaVariant::Llama), llama(LlamaVariant::Qwen3)] {
        let base = of_weights(&weights(&network), &network.sites()).unwrap();
        let run = |tokens: &Tokens, rows: &[usize]| {
            let mut ops = Fixed::new(&base, Adaptation::Factors(&adapter));
            let logits = network.forward(&mut ops, tokens, rows).unwrap();
            (logits.entries, ops.into_records().unwrap())
        };
        let (first, second, third) = ([7u32, 8, 9, 1], [7u32, 8, 2], [5u32]);
        let mut tokens = Tokens::default();
        let places = tokens.push_alike(&[&first, &second]);
        places.iter().for_each(|place| assert_eq!(place.row(1), 1, "both begin with 7 8"));
        let last = tokens.push_alike(&[&third]);
        let rows = [places[0].row(3), places[1].row(2), last[0].row(0)];
        let (together, records) = run(&tokens, &rows);
        let alone: Vec<_> = [&first[..], &second, &third]
            .map(|ids| run(&Tokens::sequence(ids.to_vec()), &[ids.len() - 1]))
            .into_iter()
            .collect();
        let one_by_one: Vec<i64> = alone.iter().flat_map(|(logits, _)| logits).copied().collect();
        assert_eq!(together, one_by_one);
        for (index, record) in records.iter().enumerate() {
            let width = record.deltas.len() / 6;
            let [first, second, third] = [0, 1, 2].map(|sequence| &alone[sequence].1[index].deltas);
            let expected = [&first[..], &second[2 * width..], third].concat();
            assert_eq!(record.deltas, expected, "{}", record.site);
        }
    }
}

/// Reading rows of logits block by block finds what all logits at once hold.
#[test]
fn rows_are_read_as_they_are() {
    let network = small();
    let adapter = of_adapter(&adapter()).unwrap();
    let base = of_weights(&weights(&network), &network.sites()).unwrap();
    let tokens = Tokens::sequences((0..5).map(|first| (first..first + 20).collect::<Vec<u32>>()));
    let rows: Vec<usize> = (0..100).collect();
    let mut plain = Fixed::new(&base, Adaptation::Factors(&adapter));
    let logits = network.forward(&mut plain, &tokens, &rows).unwrap();
    let mut found = Vec::new();
    let mut reader = |row: usize, content: LogitsRow<'_>| {
        found.push((row, content.site.to_owned(), content.logits.to_vec()));
        Ok(())
    };
    let mut reading = Fixed::reading(&base, Adaptation::Factors(&adapter), &mut reader);
    let none = network.forward(&mut reading, &tokens, &rows).unwrap();
    assert_eq!((none.rows, none.entries.len()), (0, 0));
    assert_eq!(reading.into_records().unwrap(), plain.into_records().unwrap());
    let all = rows.iter().zip(logits.entries.chunks_exact(40));
    assert_eq!(found, all.map(|(row, logits)| (*row, "lm_head".to_owned(), logits.to_vec())).collect::<Vec<_>>());

    // What a reader refuses ends the pass.
    let mut refuse = |row: usize, _: LogitsRow<'_>| if row == 70 { Err(PassError::Row(row)) } else { Ok(()) };
    let mut ops = Fixed::reading(&base, Adaptation::Base, &mut refuse);
    assert!(matches!(network.forward(&mut ops, &tokens, &rows), Err(PassError::Row(70))));
}

#[test]
fn bad_input_is_an_error() {
    let plain = small();
    let base = of_weights(&weights(&plain), &plain.sites()).unwrap();
    let run = |tokens, rows: &[usize]| plain.forward(&mut Fixed::new(&base, Adaptation::Base), &tokens, rows);
    assert!(matches!(run(Tokens::sequence(vec![1, 40]), &[0]), Err(PassError::Token(40))));
    assert!(matches!(run(Tokens::sequence(vec![1, 2]), &[2]), Err(PassError::Row(2))));
    let empty = FixedBase::default();
    let long = Tokens::sequence(vec![1; 21]);
    let base = of_weights(&weights(&gpt2()), &gpt2().sites()).unwrap();
    let beyond = gpt2().forward(&mut Fixed::new(&base, Adaptation::Base), &long, &[0]);
    assert!(matches!(beyond, Err(PassError::Positions(20))));
    let biased = llama(LlamaVariant::Qwen2);
    let base = of_weights(&weights(&biased), &biased.sites()).unwrap();
    let forgotten = plain.forward(&mut Fixed::new(&base, Adaptation::Base), &tokens(), &[0]);
    assert!(matches!(forgotten, Err(PassError::Bias(site)) if site == "model.layers.0.self_attn.q_proj"));
    let missing = plain.forward(&mut Fixed::new(&empty, Adaptation::Base), &tokens(), &[0]);
    assert!(matches!(missing, Err(PassError::MissingSite(site)) if site == "model.embed_tokens"));
}

#[test]
fn agreement_counts_what_differs() {
    let logits = Activations::new("lm_head", 2, vec![1 << 16, 0, 0, 1 << 16]);
    assert_eq!(Agreement::of(&logits, &[1.0, 0.0, 0.0, 1.0]), Some(Agreement { top1: 1.0, log_prob: 0.0 }));
    let half = Agreement::of(&logits, &[1.0, 0.0, 1.0, 0.0]).unwrap();
    assert_eq!(half.top1, 0.5);
    assert!((half.log_prob - 0.5).abs() < 1e-12);
    assert_eq!(Agreement::of(&logits, &[1.0]), None);
    assert_eq!(logits.greedy(), [0, 1]);
}
