//! Adapter folders, good and bad.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::hint::Hint;
use crate::train::normal_values;

/// Tensors of a file: type, shape and bytes by name.
type Stored = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

const A: &str = "base_model.model.layers.0.q_proj.lora_A.weight";
const B: &str = "base_model.model.layers.0.q_proj.lora_B.weight";

/// Factors of rank 2 of one site that takes 3 features to 4.
fn stored() -> Stored {
    let a = (Dtype::F32, vec![2, 3], f32s(&[1.0, -2.0, 0.5, 0.25, 3.0, -0.125]));
    let b = (Dtype::F32, vec![4, 2], f32s(&[1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0]));
    [(A.to_owned(), a), (B.to_owned(), b)].into()
}

fn config() -> Value {
    json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 6 })
}

fn folder(config: &Value, tensors: &Stored) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join(FACTORS)).unwrap();
    folder
}

/// What reading says, without the folder in front.
fn refused(config: &Value, tensors: &Stored) -> String {
    let folder = folder(config, tensors);
    let error = load(folder.path()).unwrap_err().to_string();
    error.strip_prefix(&format!("{}/", folder.path().display())).expect("the path comes first").to_owned()
}

fn with(key: &str, value: Value) -> Value {
    let mut config = config();
    config[key] = value;
    config
}

fn changed(change: impl FnOnce(&mut Stored)) -> Stored {
    let mut tensors = stored();
    change(&mut tensors);
    tensors
}

/// An adapter whose numbers lie on no grid.
fn adapter(sites: &[&str]) -> Adapter {
    let factors = |site: &str| Factors {
        rank: 2,
        d_in: 3,
        d_out: 4,
        a: normal_values(site, 6, 0.3, 1),
        b: normal_values(site, 8, 0.01, 2),
        scale: 1.7,
    };
    Adapter { sites: sites.iter().map(|&site| (site.to_owned(), factors(site))).collect() }
}

#[test]
fn a_folder_gives_its_factors_and_scale() {
    let adapter = load(folder(&config(), &stored()).path()).unwrap();
    let expected = Factors {
        rank: 2,
        d_in: 3,
        d_out: 4,
        a: vec![1.0, -2.0, 0.5, 0.25, 3.0, -0.125],
        b: vec![1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0],
        scale: 3.0,
    };
    assert_eq!(adapter.sites, [("layers.0.q_proj".to_owned(), expected)].into());
}

#[test]
fn an_rslora_adapter_is_scaled_by_the_root_of_its_rank() {
    let scale = |config: &Value| load(folder(config, &stored()).path()).unwrap().sites["layers.0.q_proj"].scale;
    assert_eq!(scale(&with("use_rslora", json!(true))), (6.0 / 2.0f64.sqrt()) as f32);
    assert_eq!(scale(&with("use_rslora", json!(false))), 3.0);
    assert_eq!(scale(&with("use_rslora", Value::Null)), 3.0);
    for value in [json!("true"), json!(1)] {
        let error = load(folder(&with("use_rslora", value.clone()), &stored()).path()).unwrap_err().to_string();
        assert!(error.contains(&format!("use_rslora must be true or false: {value}")), "{error}");
    }
}

#[test]
fn a_silent_configuration_has_the_rank_and_alpha_that_peft_assumes() {
    let tensors = changed(|tensors| {
        tensors.insert(A.to_owned(), (Dtype::F32, vec![8, 1], f32s(&[1.0; 8])));
        tensors.insert(B.to_owned(), (Dtype::F32, vec![1, 8], f32s(&[1.0; 8])));
    });
    let adapter = load(folder(&json!({ "peft_type": "LORA" }), &tensors).path()).unwrap();
    assert_eq!(adapter.sites["layers.0.q_proj"].scale, 1.0);
}

#[test]
fn every_kind_of_adapter_that_is_not_plain_lora_is_refused_by_file_and_key() {
    let kinds = [
        ("peft_type", json!("IA3")),
        ("peft_type", Value::Null),
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("lora_bias", json!(true)),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({ "nblocks": 2 })),
        ("modules_to_save", json!(["lm_head"])),
        ("layer_replication", json!([[0, 2], [1, 3]])),
        ("trainable_token_indices", json!([1, 2])),
        ("target_parameters", json!(["experts.gate"])),
        ("alora_invocation_tokens", json!([5])),
        ("arrow_config", json!({ "top_k": 2 })),
        ("kasa_config", json!({ "beta": 0.1 })),
        ("monteclora_config", json!({ "samples": 4 })),
        ("velora_config", json!({ "groups": 4 })),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("corda")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("lora_ga")),
    ];
    for (key, value) in kinds {
        let expected = format!("adapter_config.json:{key}: this kind of adapter is not supported: {value}");
        assert_eq!(refused(&with(key, value), &stored()), expected);
    }
}

#[test]
fn keys_that_nobody_knows_are_refused_where_they_ask_for_something() {
    for value in [json!(true), json!({ "groups": 2 }), json!([1])] {
        let expected = format!(
            "adapter_config.json:use_later: is not known here, and may change what the adapter computes: {value}"
        );
        assert_eq!(refused(&with("use_later", value), &stored()), expected);
    }
    for value in [json!(false), Value::Null, json!([]), json!("text"), json!(3)] {
        assert!(load(folder(&with("use_later", value), &stored()).path()).is_ok());
    }
}

#[test]
fn a_file_of_several_adapters_is_refused() {
    let named = |name: &str, to: &str| name.replace(".weight", &format!(".{to}.weight"));
    let tensors = stored()
        .into_iter()
        .flat_map(|(name, tensor)| [(named(&name, "one"), tensor.clone()), (named(&name, "two"), tensor)]);
    let expected = "adapter_model.safetensors: holds several adapters: one, two";
    assert_eq!(refused(&config(), &tensors.collect()), expected);
}

#[test]
fn empty_lists_say_nothing() {
    for key in ["modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication"] {
        for empty in [json!([]), json!({})] {
            assert!(load(folder(&with(key, empty), &stored()).path()).is_ok(), "{key}");
        }
    }
}

#[test]
fn names_that_wrappers_changed_are_the_same_factors() {
    let plain = load(folder(&config(), &stored()).path()).unwrap();
    for change in [
        |name: &str| name.replace(".weight", ".default.weight"),
        |name: &str| name.replace(".weight", ".mine.weight"),
        |name: &str| name.replace("base_model.model.", "base_model.model._orig_mod."),
        |name: &str| name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."),
        |name: &str| format!("module.{name}"),
        |name: &str| format!("_orig_mod.module.{name}"),
        |name: &str| name.replace("base_model.model.", ""),
    ] {
        let tensors: Stored = stored().into_iter().map(|(name, tensor)| (change(&name), tensor)).collect();
        let found = load(folder(&config(), &tensors).path()).unwrap();
        assert_eq!(found.sites.keys().collect::<Vec<_>>(), plain.sites.keys().collect::<Vec<_>>());
    }
    let tensors = changed(|tensors| drop(tensors.insert(format!("module.{A}"), tensors[A].clone())));
    let expected = "adapter_model.safetensors: two tensors are one factor: layers.0.q_proj.lora_A.weight";
    assert_eq!(refused(&config(), &tensors), expected);
}

#[test]
fn copies_of_the_base_are_handed_to_who_can_compare_them() {
    let name = "base_model.model.lm_head.base_layer.weight";
    let tensors = changed(|tensors| drop(tensors.insert(name.to_owned(), (Dtype::F32, vec![1], f32s(&[1.0])))));
    let (_, copies) = load_with_copies(folder(&config(), &tensors).path()).unwrap();
    assert_eq!(copies, Saved::from([("lm_head".to_owned(), (vec![1], vec![1.0]))]));
}

#[test]
fn a_pointer_of_git_lfs_is_named_as_such() {
    let folder = folder(&config(), &stored());
    std::fs::write(folder.path().join(FACTORS), [LFS, b"v1\n"].concat()).unwrap();
    let error = load(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("adapter_model.safetensors: a Git LFS pointer, not the file it stands for"));
    assert!(error.hint().unwrap().contains("git lfs pull"));
}

#[test]
fn dora_is_refused_with_the_reason() {
    let error = load(folder(&with("use_dora", json!(true)), &stored()).path()).unwrap_err();
    assert!(error.hint().unwrap().starts_with("DoRA rescales the base's own output"));
}

/// Configuration and tensors of four sites of ranks 2, 3, 2 and 1, all ones.
fn patterned(config: Value) -> (Value, Stored) {
    let sites = ["model.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.11.q_proj", "model.layers.0.v_proj"];
    let mut tensors = Stored::new();
    for (site, rank) in sites.into_iter().zip([2, 3, 2, 1]) {
        let ones = |count: usize| f32s(&vec![1.0; count]);
        let name = |half: &str| format!("base_model.model.{site}.lora_{half}.weight");
        tensors.insert(name("A"), (Dtype::F32, vec![rank, 5], ones(rank * 5)));
        tensors.insert(name("B"), (Dtype::F32, vec![4, rank], ones(4 * rank)));
    }
    let mut whole = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 6 });
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    (whole, tensors)
}

#[test]
fn patterns_give_each_site_its_rank_and_scale_as_peft_matches_them() {
    let scales = |config: Value| -> Vec<f32> {
        let (config, tensors) = patterned(config);
        let adapter = load(folder(&config, &tensors).path()).unwrap();
        adapter.sites.values().map(|factors| factors.scale).collect()
    };
    // In name order: layer 0's q and v, layer 1's q, layer 11's q.
    let ranks = json!({ "v_proj": 1, "layers.1.q_proj": 3 });
    assert_eq!(scales(json!({ "rank_pattern": ranks })), [3.0, 6.0, 2.0, 3.0]);
    let alphas = json!({ ".*0\\.[qv]_proj": 1.5, "q_proj": 12, "model.layers.11.q_proj": 1000 });
    assert_eq!(scales(json!({ "rank_pattern": ranks, "alpha_pattern": alphas })), [0.75, 1.5, 4.0, 6.0]);
    let root = |rank: f64| (6.0 / rank.sqrt()) as f32;
    let rescaled = scales(json!({ "rank_pattern": ranks, "use_rslora": true }));
    assert_eq!(rescaled, [root(2.0), root(1.0), root(3.0), root(2.0)]);
    // How the sites were chosen is of no interest: the tensors are there.
    let chosen = json!({ "rank_pattern": ranks, "layers_to_transform": [0, 1, 11], "exclude_modules": ["k_proj"] });
    assert_eq!(scales(chosen), [3.0, 6.0, 2.0, 3.0]);
}

#[test]
fn patterns_that_do_not_fit_are_refused() {
    let says = |config: Value| {
        let (config, tensors) = patterned(config);
        refused(&config, &tensors)
    };
    let fits = json!({ "v_proj": 1, "layers.1.q_proj": 3 });
    let q = "model.layers.1.q_proj has [3, 5] and [4, 3]";
    assert_eq!(
        says(json!({ "rank_pattern": { "v_proj": 1 } })),
        format!("adapter_model.safetensors: factors do not fit rank 2: {q}")
    );
    let with = |key: &str, value: Value| says(json!({ "rank_pattern": fits, key: value }));
    assert_eq!(
        with("alpha_pattern", json!(["q_proj"])),
        "adapter_config.json: alpha_pattern must map names to numbers: [\"q_proj\"]"
    );
    assert_eq!(
        with("alpha_pattern", json!({ "q_proj": "4" })),
        "adapter_config.json: alpha_pattern.q_proj must be a number: \"4\""
    );
    assert_eq!(
        with("alpha_pattern", json!({ "(q": 4 })),
        "adapter_config.json: alpha_pattern: not a regular expression, unclosed group: (q"
    );
    assert_eq!(
        says(json!({ "rank_pattern": { "q_proj": 1.5 } })),
        "adapter_config.json: r and lora_alpha give no scale: 1.5, 6"
    );
}

#[test]
fn keys_at_their_plain_values_are_accepted() {
    let mut config = config();
    for (key, value) in plain_values() {
        config[key] = value;
    }
    for init in [json!(true), json!(false), json!("gaussian"), json!("orthogonal"), json!("eva"), Value::Null] {
        config["init_lora_weights"] = init;
        load(folder(&config, &stored()).path()).unwrap();
    }
    for (key, _) in plain_values() {
        config[key] = Value::Null;
    }
    load(folder(&config, &stored()).path()).unwrap();
}

#[test]
fn numbers_that_give_no_scale_are_refused() {
    let cases = [
        ("r", json!("two"), "r must be a number: \"two\""),
        ("lora_alpha", json!([1]), "lora_alpha must be a number: [1]"),
        ("r", json!(0), "r and lora_alpha give no scale: 0, 6"),
        ("r", json!(-2), "r and lora_alpha give no scale: -2, 6"),
        ("r", json!(2.5), "r and lora_alpha give no scale: 2.5, 6"),
    ];
    for (key, value, expected) in cases {
        assert_eq!(refused(&with(key, value), &stored()), format!("adapter_config.json: {expected}"));
    }
}

#[test]
fn a_factor_without_its_partner_is_refused() {
    for half in [A, B] {
        let tensors = changed(|tensors| drop(tensors.remove(half)));
        let expected = "adapter_model.safetensors: lora_A or lora_B is missing: layers.0.q_proj";
        assert_eq!(refused(&config(), &tensors), expected);
    }
}

#[test]
fn shapes_that_do_not_fit_the_rank_are_refused() {
    let expected =
        |shapes: &str| format!("adapter_model.safetensors: factors do not fit rank 2: layers.0.q_proj has {shapes}");
    let put = |name: &'static str, shape: Vec<usize>| {
        changed(|tensors| {
            let bytes = f32s(&vec![1.0; shape.iter().product()]);
            tensors.insert(name.to_owned(), (Dtype::F32, shape, bytes));
        })
    };
    assert_eq!(refused(&config(), &put(A, vec![3, 3])), expected("[3, 3] and [4, 2]"));
    assert_eq!(refused(&config(), &put(B, vec![4, 1])), expected("[2, 3] and [4, 1]"));
    assert_eq!(refused(&config(), &put(A, vec![2, 0])), expected("[2, 0] and [4, 2]"));
    let flat = refused(&config(), &put(B, vec![8]));
    assert_eq!(flat, "adapter_model.safetensors: factors must be matrices: layers.0.q_proj");
    let other_rank = refused(&with("r", json!(3)), &stored());
    assert_eq!(other_rank, expected("[2, 3] and [4, 2]").replace("rank 2", "rank 3"));
}

#[test]
fn a_value_that_is_not_finite_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let tensors =
            changed(|tensors| tensors.get_mut(B).unwrap().2 = f32s(&[1.0, 1.0, 1.0, bad, 1.0, 1.0, 1.0, 1.0]));
        let expected = "adapter_model.safetensors: a factor is not finite: layers.0.q_proj";
        assert_eq!(refused(&config(), &tensors), expected);
    }
}

#[test]
fn tensors_that_are_no_factors_are_refused() {
    for name in [
        "base_model.model.lm_head.weight",
        "base_model.model.layers.0.q_proj.lora_magnitude_vector.weight",
        "base_model.model.layers.0.q_proj.lora_embedding_A",
        "base_model.model.layers.0.q_proj.lora_A.other.one.weight",
        "base_model.model.lm_head.base_layer.weight",
    ] {
        let tensors = changed(|tensors| drop(tensors.insert(name.to_owned(), (Dtype::F32, vec![1], f32s(&[1.0])))));
        let expected = format!("adapter_model.safetensors: not a LoRA factor: {name}");
        assert_eq!(refused(&config(), &tensors), expected);
    }
    for (name, tool) in [
        ("base_model.model.model.embed_tokens.lora_embedding_A", "PEFT trained an embedding there"),
        ("model.layers.0.self_attn.q_proj.lora_a", "MLX names factors so"),
        ("lora_unet_down_blocks_0_proj_in.lora_down.weight", "in adapters of models that make images"),
        ("model_layers_0_q_proj.lora_up.weight", "kohya's scripts name tensors so; convert"),
        ("model_layers_0_q_proj.alpha", "kohya's scripts name tensors so; convert"),
    ] {
        let tensors = [(name.to_owned(), (Dtype::F32, vec![1], f32s(&[1.0])))].into();
        let error = load(folder(&config(), &tensors).path()).unwrap_err();
        assert!(matches!(&error, PeftError::NoFactor { tensor, .. } if tensor == name), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(tool), "{name}: {hint}");
    }
    assert_eq!(refused(&config(), &Stored::new()), "adapter_model.safetensors: holds no factors");
}

#[test]
fn half_precision_factors_are_widened_and_other_types_refused() {
    let values = [1.0f32, -2.0, 0.5, 0.25, 3.0, -0.125];
    let pairs: [(Dtype, Vec<u8>); 2] = [
        (Dtype::BF16, values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()),
        (Dtype::F16, values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()),
    ];
    for (dtype, bytes) in pairs {
        let tensors = changed(|tensors| drop(tensors.insert(A.to_owned(), (dtype, vec![2, 3], bytes))));
        assert_eq!(load(folder(&config(), &tensors).path()).unwrap().sites["layers.0.q_proj"].a, values);
    }
    let tensors = changed(|tensors| drop(tensors.insert(A.to_owned(), (Dtype::F64, vec![2, 3], vec![0; 48]))));
    let expected = "adapter_model.safetensors: not f32, bf16 or f16: layers.0.q_proj";
    assert_eq!(refused(&config(), &tensors), expected);
}

#[test]
fn missing_and_broken_files_are_refused_by_name() {
    let folder = folder(&config(), &stored());
    let factors = folder.path().join(FACTORS);
    let bytes = std::fs::read(&factors).unwrap();
    let says = || load(folder.path()).unwrap_err().to_string();
    for length in [0, 7, 20, bytes.len() - 1] {
        std::fs::write(&factors, &bytes[..length]).unwrap();
        assert!(says().starts_with(&format!("{}: ", factors.display())), "{length}");
    }
    std::fs::remove_file(&factors).unwrap();
    assert!(matches!(load(folder.path()), Err(PeftError::Io { path, .. }) if path == factors));
    let hint = || load(folder.path()).unwrap_err().hint().unwrap();
    assert_eq!(hint(), "an adapter folder holds adapter_config.json and adapter_model.safetensors");
    // What is there is said.
    let named = folder.path().join("mine");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join(CONFIG), "{}").unwrap();
    assert_eq!(hint(), format!("there is an adapter in a folder of its own: {}", named.display()));
    std::fs::write(folder.path().join("adapter_model.bin"), "").unwrap();
    assert!(hint().starts_with("there is adapter_model.bin, which is not read: "));
    let config = folder.path().join(CONFIG);
    for text in ["", "[]", "{\"peft_type\": "] {
        std::fs::write(&config, text).unwrap();
        assert!(matches!(load(folder.path()), Err(PeftError::Malformed { path, .. }) if path == config), "{text}");
    }
    std::fs::remove_file(&config).unwrap();
    assert!(matches!(load(folder.path()), Err(PeftError::Io { path, .. }) if path == config));
}

#[test]
fn what_is_saved_is_what_is_loaded_with_the_scale_absorbed() {
    let (folder, adapter) = (tempfile::tempdir().unwrap(), adapter(&["layers.0.q_proj", "layers.1.q_proj"]));
    save(folder.path(), &adapter, "org/base", &[], false).unwrap();
    let loaded = load(folder.path()).unwrap();
    assert_eq!(loaded, adapter.on_grid().unwrap());
    for (site, factors) in &adapter.sites {
        let ours = &loaded.sites[site];
        assert_eq!(ours.scale, 1.0);
        // Sixteen bits for the largest entry of each tensor: half a step is 2^-15 of it at most.
        let near = |a: &[f32], b: &[f32]| {
            let largest = b.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= largest / 32768.0)
        };
        assert!(near(&ours.a, &factors.a));
        assert!(near(&ours.b, &factors.b.iter().map(|b| b * factors.scale).collect::<Vec<_>>()));
        assert_ne!(ours.a, factors.a, "the test's numbers must not lie on the grid");
    }
}

#[test]
fn saving_a_loaded_export_gives_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let linear = ["layers.0.q_proj".to_owned(), "layers.1.q_proj".to_owned()];
    let mut adapter = adapter(&["layers.0.q_proj", "layers.1.q_proj"]);
    // A factor that is zero, as all are before training, and the edges of the grid.
    let factors = adapter.sites.get_mut("layers.1.q_proj").unwrap();
    factors.b = vec![0.0; 8];
    factors.a = vec![-0.0, 1e-12, 32767.4, -1.0, 0.49, 0.5];
    save(first.path(), &adapter, "base", &linear, false).unwrap();
    save(second.path(), &load(first.path()).unwrap(), "base", &linear, false).unwrap();
    for file in [CONFIG, FACTORS] {
        let read = |folder: &TempDir| std::fs::read(folder.path().join(file)).unwrap();
        assert!(read(&first) == read(&second), "{file}");
    }
}

#[test]
fn a_factor_that_does_not_fit_the_grid_is_not_written() {
    for (bad, says) in [(f32::NAN, "not a finite number at index: 2"), (1e9, "too large for the grid at index: 2")] {
        let (folder, mut adapter) = (tempfile::tempdir().unwrap(), adapter(&["q_proj"]));
        let out = folder.path().join("out");
        adapter.sites.get_mut("q_proj").unwrap().a[2] = bad;
        let error = save(&out, &adapter, "base", &[], false).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {says}", out.join(FACTORS).display()));
        assert!(!out.exists());
    }
}

#[test]
fn target_modules_are_short_only_where_they_name_the_adapted_sites_exactly() {
    let linear: Vec<String> =
        ["layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj"].map(str::to_owned).into();
    let targets = |sites: &[&str]| -> Value {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &adapter(sites), "base", &linear, false).unwrap();
        let config: Map<String, Value> =
            serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
        assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(2), &json!(2)));
        config["target_modules"].clone()
    };
    assert_eq!(targets(&["layers.0.q_proj", "layers.1.q_proj"]), json!(["q_proj"]));
    assert_eq!(
        targets(&["layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj"]),
        json!(["q_proj", "v_proj"])
    );
    assert_eq!(targets(&["layers.1.q_proj"]), json!(["layers.1.q_proj"]));
    assert_eq!(
        targets(&["layers.0.q_proj", "layers.1.q_proj", "layers.1.v_proj"]),
        json!(["layers.0.q_proj", "layers.1.q_proj", "layers.1.v_proj"])
    );
}

/// The network's linear sites: four in each of twelve layers.
fn network() -> Vec<String> {
    let layer =
        |n: usize| ["q_proj", "v_proj", "up_proj", "down_proj"].map(|last| format!("model.layers.{n}.x.{last}"));
    (0..12).flat_map(layer).collect()
}

/// An adapter on the sites a rank is given for.
fn ranked(rank: impl Fn(&str) -> Option<usize>) -> Adapter {
    let factors = |site: String, rank: usize| {
        let (a, b) = (normal_values(&site, rank * 3, 0.3, 1), normal_values(&site, 4 * rank, 0.01, 2));
        (site, Factors { rank, d_in: 3, d_out: 4, a, b, scale: 1.7 })
    };
    let sites = network().into_iter().filter_map(|site| rank(&site).map(|rank| factors(site, rank)));
    Adapter { sites: sites.collect() }
}

fn saved(adapter: &Adapter) -> Value {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), adapter, "base", &network(), false).unwrap();
    assert_eq!(load(folder.path()).unwrap(), adapter.on_grid().unwrap());
    serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG)).unwrap()).unwrap()
}

/// llama.cpp's loader divides one alpha by the rank of each tensor (`get_scale` in src/llama-adapter.h), vLLM's one alpha
/// by one rank, PEFT's the alpha of a site by its rank: all are 1 in what is written.
#[test]
fn mixed_ranks_have_one_scale_for_every_loader() {
    let mixed = ranked(|site| Some(if site.ends_with("v_proj") { 5 } else { 2 }));
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &mixed, "base", &network(), false).unwrap();
    let config: Value = serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(5), &json!(5)));
    assert_eq!((&config["rank_pattern"], &config["alpha_pattern"]), (&json!({}), &json!({})));
    let bytes = std::fs::read(folder.path().join(FACTORS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in file.tensors() {
        let rank = tensor.shape()[usize::from(name.contains("lora_B"))];
        assert_eq!(config["lora_alpha"].as_f64().unwrap() / rank as f64, 1.0, "{name}");
    }
    // The product is that of the factors as they were trained, and what is read has their ranks again.
    let own = mixed.on_grid().unwrap();
    let q = "model.layers.3.x.q_proj";
    let wide = |half: &str| widen(&file.tensor(&format!("base_model.model.{q}.lora_{half}.weight")).unwrap()).unwrap();
    let product = |a: &[f32], b: &[f32], rank: usize| -> Vec<f32> {
        let entry = |o: usize, i: usize| (0..rank).map(|r| b[o * rank + r] * a[r * 3 + i]).sum();
        (0..12).map(|at| entry(at / 3, at % 3)).collect()
    };
    assert_eq!(product(&wide("A"), &wide("B"), 5), product(&own.sites[q].a, &own.sites[q].b, 2));
    assert_eq!(load(folder.path()).unwrap(), own);
}

#[test]
fn only_last_ranks_that_add_nothing_are_left_out() {
    let read = |a: [f32; 6], b: [f32; 8]| {
        let tensors = changed(|tensors| {
            tensors.insert(A.to_owned(), (Dtype::F32, vec![2, 3], f32s(&a)));
            tensors.insert(B.to_owned(), (Dtype::F32, vec![4, 2], f32s(&b)));
        });
        load(folder(&config(), &tensors).path()).unwrap().sites.remove("layers.0.q_proj").unwrap()
    };
    let (ones, half) = ([1.0; 8], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let one = read([1.0, 2.0, 3.0, 0.0, 0.0, 0.0], half);
    // The scale is that of the ranks the file has.
    assert_eq!((one.rank, one.a, one.b, one.scale), (1, vec![1.0, 2.0, 3.0], vec![1.0; 4], 3.0));
    // As training begins: one factor is zero.
    assert_eq!(read([1.0; 6], [0.0; 8]).rank, 2);
    assert_eq!(read([1.0, 2.0, 3.0, 0.0, 0.0, 0.0], ones).rank, 2);
    assert_eq!(read([0.0, 0.0, 0.0, 1.0, 2.0, 3.0], ones).rank, 2);
    assert_eq!(read([0.0; 6], [0.0; 8]).rank, 1);
}

#[test]
fn layers_are_written_so_that_no_other_site_is_named() {
    let config = saved(&ranked(|site| {
        (site.ends_with("q_proj") && [".1.", ".11."].iter().any(|layer| site.contains(layer))).then_some(4)
    }));
    assert_eq!((&config["target_modules"], &config["layers_to_transform"]), (&json!(["q_proj"]), &json!([1, 11])));
    assert_eq!(config["r"], json!(4));

    // No product of names and layers.
    let two = ["model.layers.1.x.q_proj", "model.layers.2.x.v_proj"];
    let config = saved(&ranked(|site| two.contains(&site).then_some(1)));
    assert_eq!((&config["target_modules"], &config["layers_to_transform"]), (&json!(two), &Value::Null));
}
