//! Adapter folders as PEFT writes and reads them: `adapter_config.json` beside
//! `adapter_model.safetensors` with `base_model.model.<site>.lora_{A,B}.weight`.

mod config;
mod files;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value, json};

use self::config::ScaleRule;
pub(crate) use self::files::read;
use self::files::{bare, malformed, write};
use crate::lora::{Adapter, Factors};
use crate::weights::bytes;

/// Weights that were trained in full beside the factors, by their names in the base, with their shapes: PEFT's
/// `modules_to_save`.
pub type Saved = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub use self::files::{CONFIG, FACTORS, LFS, PeftError, unwrapped};
pub use self::survey::{FactorShape, Survey, survey};

/// Keys that change what an adapter computes, with the value that leaves it plain LoRA.
/// An absent key or null is plain too. `fan_in_fan_out` is none of them: it says how the base's files hold their
/// matrices, and PEFT itself goes by the base where they differ.
fn plain_values() -> [(&'static str, Value); 14] {
    [
        ("bias", json!("none")),
        ("lora_bias", json!(false)),
        ("use_dora", json!(false)),
        ("use_qalora", json!(false)),
        ("modules_to_save", Value::Null),
        ("layer_replication", Value::Null),
        ("trainable_token_indices", Value::Null),
        ("target_parameters", Value::Null),
        ("alora_invocation_tokens", Value::Null),
        ("velora_config", Value::Null),
        ("use_bdlora", Value::Null),
        ("arrow_config", Value::Null),
        ("kasa_config", Value::Null),
        ("monteclora_config", Value::Null),
    ]
}

/// Keys that PEFT 0.21 writes and that change nothing of what a saved adapter computes, or that are read.
const KNOWN: [&str; 26] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "r",
    "rank_pattern",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// Whether a value says nothing.
fn nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

/// Initialisations that leave the base as it is. The others (PiSSA, OLoRA and their like) subtract the
/// first factors from its weights, so that their adapter is no adapter of the base itself.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// Reads an adapter folder. Factors in bf16 or f16 are widened to f32.
///
/// # Errors
/// A missing or malformed file, a factor without its partner, shapes that do not fit the rank (or
/// that of the site's `rank_pattern`), a value that is not finite, a kind of adapter other than plain LoRA. Last ranks
/// that are all zero in both factors add nothing and are left out.
pub fn load(folder: &Path) -> Result<Adapter, PeftError> {
    let (adapter, _) = open(folder, ExtraTensors::Nothing)?;
    Ok(adapter)
}

/// What an adapter calls its base (`base_model_name_or_path`), if it does.
///
/// # Errors
/// A configuration that cannot be read.
pub fn base_name(folder: &Path) -> Result<Option<String>, PeftError> {
    let path = folder.join(CONFIG);
    let config: Value = serde_json::from_slice(&read(&path)?).map_err(|error| malformed(&path, error.to_string()))?;
    let name = config["base_model_name_or_path"].as_str().filter(|name| !name.is_empty());
    Ok(name.map(str::to_owned))
}

/// [`load`] for a caller who knows the base: also the copies of its weights that PEFT saves beside the factors of a head
/// (`lm_head.base_layer.weight`), by the names of their sites. They belong to the adapter only where they differ, and
/// then it is none that can be read.
///
/// # Errors
/// Those of [`load`].
pub fn load_with_copies(folder: &Path) -> Result<(Adapter, Saved), PeftError> {
    open(folder, ExtraTensors::Copies)
}

/// [`load`] for bases whose head may have been trained in full: also the weights of `modules_to_save`.
///
/// # Errors
/// Those of [`load`]; weights of a module that the configuration does not name.
pub fn load_with_saved(folder: &Path) -> Result<(Adapter, Saved), PeftError> {
    open(folder, ExtraTensors::Saved)
}

/// What may stand beside factors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExtraTensors {
    Nothing,
    Saved,
    Copies,
}

fn open(folder: &Path, beside: ExtraTensors) -> Result<(Adapter, Saved), PeftError> {
    let path = folder.join(CONFIG);
    let config: Map<String, Value> =
        serde_json::from_slice(&read(&path)?).map_err(|error| malformed(&path, error.to_string()))?;
    if config.get("peft_type") != Some(&json!("LORA")) {
        let value = config.get("peft_type").unwrap_or(&Value::Null).to_string();
        return Err(PeftError::Unsupported { path, key: "peft_type", value });
    }
    let modules = config.get("modules_to_save").filter(|_| beside == ExtraTensors::Saved).and_then(Value::as_array);
    let modules: Vec<&str> = modules.into_iter().flatten().filter_map(Value::as_str).collect();
    let plain = plain_values().into_iter().filter(|(key, _)| *key != "modules_to_save" || modules.is_empty());
    for (key, plain) in plain {
        if let Some(value) = config.get(key).filter(|&value| !nothing(value) && *value != plain) {
            return Err(PeftError::Unsupported { path, key, value: value.to_string() });
        }
    }
    // Names and numbers that nobody knows describe; what is switched on, or has settings, does something.
    let asks =
        |value: &Value| matches!(value, Value::Bool(true) | Value::Array(_) | Value::Object(_)) && !nothing(value);
    let known = |key: &str| KNOWN.contains(&key) || plain_values().iter().any(|(known, _)| *known == key);
    if let Some((key, value)) = config.iter().find(|(key, value)| !known(key) && asks(value)) {
        return Err(PeftError::UnknownKey { path, key: key.clone(), value: value.to_string() });
    }
    let key = "init_lora_weights";
    if let Some(start) = config.get(key).and_then(Value::as_str).filter(|start| !PLAIN_STARTS.contains(start)) {
        return Err(PeftError::Unsupported { path, key, value: json!(start).to_string() });
    }
    read_factors(&folder.join(FACTORS), &ScaleRule::read(&config, &path)?, &modules, beside)
}

fn read_factors(
    path: &Path,
    scaling: &ScaleRule,
    modules: &[&str],
    beside: ExtraTensors,
) -> Result<(Adapter, Saved), PeftError> {
    let bytes = read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(path, error.to_string()))?;
    let mut halves: BTreeMap<String, [Option<TensorView<'_>>; 2]> = BTreeMap::new();
    let (mut saved, mut adapters) = (Saved::new(), BTreeSet::new());
    for (name, tensor) in file.tensors() {
        let own = bare(&name);
        let within = |module: &&str| own.strip_prefix(*module).is_some_and(|rest| rest.starts_with('.'));
        if modules.iter().any(within) && !own.contains(".lora_") {
            let values = widen(&tensor).filter(|values| values.iter().all(|value| value.is_finite()));
            let values = values.ok_or_else(|| malformed(path, format!("not finite numbers: {own}")))?;
            saved.insert(own, (tensor.shape().to_vec(), values));
            continue;
        }
        if let Some(site) = own.strip_suffix(".base_layer.weight").filter(|_| beside == ExtraTensors::Copies) {
            let values = widen(&tensor).ok_or_else(|| malformed(path, format!("not f32, bf16 or f16: {name}")))?;
            saved.insert(site.to_owned(), (tensor.shape().to_vec(), values));
            continue;
        }
        let split = own.strip_suffix(".weight").and_then(|stem| stem.rsplit_once(".lora_"));
        // Behind a half, tensors as they are in memory have the adapter's name.
        let split = split.map(|(site, half)| match half.split_once('.') {
            Some((half, adapter)) if !adapter.contains('.') => (site, half, adapter),
            _ => (site, half, ""),
        });
        match split {
            Some((site, half @ ("A" | "B"), adapter)) => {
                adapters.insert(if adapter.is_empty() { "default" } else { adapter }.to_owned());
                if adapters.len() > 1 {
                    let names: Vec<&str> = adapters.iter().map(String::as_str).collect();
                    return Err(malformed(path, format!("holds several adapters: {}", names.join(", "))));
                }
                let half = &mut halves.entry(site.to_owned()).or_default()[usize::from(half == "B")];
                if half.replace(tensor).is_some() {
                    return Err(malformed(path, format!("two tensors are one factor: {own}")));
                }
            }
            _ => return Err(PeftError::NoFactor { path: path.to_owned(), tensor: name }),
        }
    }
    if halves.is_empty() {
        return Err(malformed(path, "holds no factors".to_owned()));
    }
    let mut sites = BTreeMap::new();
    for (site, pair) in halves {
        let [Some(a), Some(b)] = pair else {
            return Err(malformed(path, format!("lora_A or lora_B is missing: {site}")));
        };
        let (&[rank_a, d_in], &[d_out, rank_b]) = (a.shape(), b.shape()) else {
            return Err(malformed(path, format!("factors must be matrices: {site}")));
        };
        let (rank, scale) = scaling.at(&site);
        if rank_a != rank || rank_b != rank || d_in == 0 || d_out == 0 {
            let shapes = format!("{:?} and {:?}", a.shape(), b.shape());
            return Err(malformed(path, format!("factors do not fit rank {rank}: {site} has {shapes}")));
        }
        let values = |tensor: &TensorView<'_>| {
            let values = widen(tensor).ok_or_else(|| malformed(path, format!("not f32, bf16 or f16: {site}")))?;
            let finite = values.iter().all(|value| value.is_finite());
            if finite { Ok(values) } else { Err(malformed(path, format!("a factor is not finite: {site}"))) }
        };
        let factors = Factors { rank, d_in, d_out, a: values(&a)?, b: values(&b)?, scale };
        sites.insert(site, trimmed(factors));
    }
    Ok((Adapter { sites }, saved))
}

/// The same product without the last ranks of which both factors are all zero: what fills lower ranks up in a file
/// ([`padded`]) is no part of an adapter, and is neither committed to nor counted.
fn trimmed(mut factors: Factors) -> Factors {
    let Factors { rank, d_in, .. } = factors;
    let idle = |at: usize| {
        let mut values = factors.a[at * d_in..(at + 1) * d_in].iter().chain(factors.b[at..].iter().step_by(rank));
        values.all(|&value| value == 0.0)
    };
    let kept = (1..rank).rev().find(|&at| !idle(at)).map_or(1, |at| at + 1);
    if kept < rank {
        factors.a.truncate(kept * d_in);
        factors.b = factors.b.chunks(rank).flat_map(|row| &row[..kept]).copied().collect();
        factors.rank = kept;
    }
    factors
}

/// The same products, all of one rank: zeros fill up those of a lower one. Loaders that take one rank or one alpha for
/// all sites, such as llama.cpp's, would apply others at another strength.
pub fn padded(mut adapter: Adapter) -> Adapter {
    let most = adapter.sites.values().map(|factors| factors.rank).max().unwrap_or(0);
    for factors in adapter.sites.values_mut() {
        let more = most - factors.rank;
        factors.a.resize(most * factors.d_in, 0.0);
        let rows = factors.b.chunks(factors.rank);
        factors.b = rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, more))).collect();
        factors.rank = most;
    }
    adapter
}

fn widen(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = tensor.data();
    let pairs = |widen: fn([u8; 2]) -> f32| data.as_chunks().0.iter().map(|&pair| widen(pair)).collect();
    match tensor.dtype() {
        Dtype::F32 => Some(data.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()),
        Dtype::BF16 => Some(pairs(|pair| half::bf16::from_le_bytes(pair).to_f32())),
        Dtype::F16 => Some(pairs(|pair| half::f16::from_le_bytes(pair).to_f32())),
        _ => None,
    }
}

/// Writes an adapter folder that PEFT loads: f32, the scale absorbed into `B`, every value on the
/// 16-bit grid, one rank and alpha that rank, so that the file is number for number what is committed, but for zeros
/// where sites have a lower rank than others.
/// `base` is written as `base_model_name_or_path`; `linear` lists all linear sites of the network, or is empty where they
/// are not known, and
/// `fan_in_fan_out` says whether the base's files hold matrices as `(d_in, d_out)`.
///
/// # Errors
/// A factor that does not fit the grid; the file system's.
pub fn save(
    folder: &Path,
    adapter: &Adapter,
    base: &str,
    linear: &[String],
    fan_in_fan_out: bool,
) -> Result<(), PeftError> {
    let config = |adapter: &Adapter| config::describe(adapter, base, linear, fan_in_fan_out);
    store(folder, adapter, &Saved::new(), config)
}

/// [`save`] for a base that is no language model, with weights that were trained in full beside the factors; they are
/// written as they are.
///
/// # Errors
/// Those of [`save`].
pub fn save_with_saved(
    folder: &Path,
    adapter: &Adapter,
    saved: &Saved,
    base: &str,
    linear: &[String],
) -> Result<(), PeftError> {
    let mut modules: Vec<&str> = saved.keys().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
    modules.dedup();
    let config = |adapter: &Adapter| {
        let mut config = config::describe(adapter, base, linear, false);
        config["task_type"] = Value::Null;
        config["modules_to_save"] = if modules.is_empty() { Value::Null } else { json!(modules) };
        config
    };
    store(folder, adapter, saved, config)
}

/// [`save`] of values as they are, on no grid, with one alpha for sites of different ranks: each has scale alpha over its
/// rank.
///
/// # Errors
/// The file system's; a scale that is another.
pub fn save_as_given(
    folder: &Path,
    adapter: &Adapter,
    alpha: f32,
    base: &str,
    linear: &[String],
    fan_in_fan_out: bool,
) -> Result<(), PeftError> {
    let other = |(_, factors): &(&String, &Factors)| alpha / factors.rank as f32 != factors.scale;
    if let Some((site, factors)) = adapter.sites.iter().find(other) {
        let scale = factors.scale;
        return Err(malformed(&folder.join(CONFIG), format!("alpha {alpha} gives no scale of {scale}: {site}")));
    }
    let mut config = config::describe(adapter, base, linear, fan_in_fan_out);
    let most = adapter.sites.values().map(|factors| factors.rank).max().unwrap_or(0);
    let lower = adapter.sites.iter().filter(|(_, factors)| factors.rank != most);
    config["rank_pattern"] = lower.map(|(site, factors)| (site.clone(), json!(factors.rank))).collect();
    config["lora_alpha"] = json!(alpha);
    write_out(folder, adapter, &Saved::new(), &config)
}

fn store(
    folder: &Path,
    adapter: &Adapter,
    saved: &Saved,
    config: impl FnOnce(&Adapter) -> Value,
) -> Result<(), PeftError> {
    let on_grid = adapter.on_grid().map_err(|error| malformed(&folder.join(FACTORS), error.to_string()))?;
    let adapter = padded(on_grid);
    write_out(folder, &adapter, saved, &config(&adapter))
}

/// Writes both files, values as they are.
fn write_out(folder: &Path, adapter: &Adapter, saved: &Saved, config: &Value) -> Result<(), PeftError> {
    let factors = folder.join(FACTORS);
    let named: Vec<(String, Vec<usize>, Vec<u8>)> = adapter
        .sites
        .iter()
        .flat_map(|(site, f)| {
            let name = |half: &str| format!("base_model.model.{site}.lora_{half}.weight");
            [(name("A"), vec![f.rank, f.d_in], bytes(&f.a)), (name("B"), vec![f.d_out, f.rank], bytes(&f.b))]
        })
        .chain(
            saved
                .iter()
                .map(|(name, (shape, values))| (format!("base_model.model.{name}"), shape.clone(), bytes(values))),
        )
        .collect();
    let views = named.iter().map(|(name, shape, data)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), data).expect("shape and bytes come from one matrix"))
    });
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let file = safetensors::serialize(views, Some(format)).map_err(|error| malformed(&factors, error.to_string()))?;

    let text = serde_json::to_string_pretty(config).expect("a JSON value has a text") + "\n";
    std::fs::create_dir_all(folder).map_err(|error| PeftError::Io { path: folder.to_owned(), error })?;
    write(&factors, &file)?;
    write(&folder.join(CONFIG), text.as_bytes())
}

#[cfg(test)]
mod tests;
