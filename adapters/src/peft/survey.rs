//! What an adapter folder holds, whether or not it can be used: for looking at files that others wrote.
//! Nothing is computed with; [`super::load`] decides what is an adapter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::tensor::SafeTensors;
use serde_json::{Map, Value};

use super::files::{CONFIG, FACTORS, PeftError, bare, malformed, read};
use crate::names::{self, PathPattern};

/// An adapter folder as it was found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Every key of the configuration.
    pub config: Map<String, Value>,
    /// Rank and dimensions of the sites that have both factors, by name.
    pub sites: BTreeMap<String, FactorShape>,
    /// Tensors by number format, as safetensors names it.
    pub formats: BTreeMap<String, usize>,
    /// Numbers in all tensors.
    pub parameters: usize,
    /// Factors that a site lacks beside its other one, by the name they would have.
    pub missing: Vec<String>,
    /// Tensors that are no factors.
    pub strange: Vec<String>,
}

/// Dimensions of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorShape {
    /// Rank of the factors.
    pub rank: usize,
    /// Input features.
    pub d_in: usize,
    /// Output features.
    pub d_out: usize,
}

impl Survey {
    /// Factor of the product that the configuration asks for, where it asks for one.
    pub fn scale(&self) -> Option<f64> {
        // What PEFT assumes where the file is silent.
        let number = |key: &str| self.config.get(key).map_or(Some(8.0), Value::as_f64);
        let (rank, alpha) = (number("r")?, number("lora_alpha")?);
        let scale = alpha / if self.rescaled() { rank.sqrt() } else { rank };
        scale.is_finite().then_some(scale)
    }

    /// Whether the scale falls with the root of the rank (rsLoRA).
    pub fn rescaled(&self) -> bool {
        self.config.get("use_rslora") == Some(&Value::Bool(true))
    }

    /// Where configuration and factors do not speak of the same sites, which PEFT warns of when it loads them, if of
    /// anything: targets without factors among `sites` of the base, factors that are no target, patterns that nothing
    /// matches.
    pub fn unlike(&self, sites: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        let mut tell = |names: Vec<&String>, what: &str| {
            if let Some(first) = names.first() {
                found.push(format!("{what}: {} sites, such as {first}", names.len()));
            }
        };
        if let Some(targeted) = self.targeted() {
            let idle = sites.iter().filter(|site| targeted(site) && !self.sites.contains_key(*site)).collect();
            tell(idle, "target_modules names sites that have no factors here, and stay as the base's");
            let other = self.sites.keys().filter(|site| !targeted(site)).collect();
            tell(
                other,
                "has factors at sites that the configuration leaves out; PEFT leaves them out, they are used here",
            );
        }
        for key in ["rank_pattern", "alpha_pattern"] {
            let patterns = self.config.get(key).and_then(Value::as_object).into_iter().flat_map(Map::keys);
            let idle = |name: &&String| {
                PathPattern::ending(name).is_ok_and(|pattern| !self.sites.keys().any(|site| pattern.matches(site)))
            };
            found.extend(patterns.filter(idle).map(|name| format!("{key}: matches no site that has factors: {name}")));
        }
        found
    }

    /// Whether the configuration targets a site; `None` where it does not say so by names.
    fn targeted(&self) -> Option<impl Fn(&str) -> bool + '_> {
        let texts = |key: &str| match self.config.get(key) {
            Some(Value::Array(values)) => values.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            None | Some(Value::Null) => Some(Vec::new()),
            Some(_) => None,
        };
        let layers = match self.config.get("layers_to_transform") {
            Some(Value::Array(values)) if !values.is_empty() => {
                Some(values.iter().map(Value::as_u64).collect::<Vec<_>>())
            }
            Some(one @ Value::Number(_)) => Some(vec![one.as_u64()]),
            _ => None,
        };
        let (names, without) = (texts("target_modules").filter(|names| !names.is_empty())?, texts("exclude_modules")?);
        Some(move |site: &str| {
            let named = |names: &[&str]| names.iter().any(|name| names::ends_with(site, name));
            let layer = names::layer(site).map(|layer| layer as u64);
            named(&names) && !named(&without) && layers.as_ref().is_none_or(|layers| layers.contains(&layer))
        })
    }

    /// Ranks of the sites.
    pub fn ranks(&self) -> BTreeSet<usize> {
        self.sites.values().map(|shape| shape.rank).collect()
    }
}

/// Looks at an adapter folder.
///
/// # Errors
/// Files that cannot be read or are neither JSON nor safetensors.
pub fn survey(folder: &Path) -> Result<Survey, PeftError> {
    let path = folder.join(CONFIG);
    let config = serde_json::from_slice(&read(&path)?).map_err(|error| malformed(&path, error.to_string()))?;
    let path = folder.join(FACTORS);
    let bytes = read(&path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(&path, error.to_string()))?;

    let mut formats = BTreeMap::new();
    let mut halves: BTreeMap<String, [Option<Vec<usize>>; 2]> = BTreeMap::new();
    let (mut parameters, mut strange) = (0, Vec::new());
    for (name, tensor) in file.tensors() {
        *formats.entry(format!("{:?}", tensor.dtype())).or_default() += 1;
        parameters += tensor.shape().iter().product::<usize>();
        let own = bare(&name);
        // Behind a half may stand the adapter's name.
        let half = |half: &'static str, found: &str| {
            found.strip_prefix(half).is_some_and(|name| name.is_empty() || name.starts_with('.')).then_some(half)
        };
        let split = own.strip_suffix(".weight").and_then(|stem| stem.rsplit_once(".lora_"));
        let split = split.and_then(|(site, found)| Some((site, half("A", found).or_else(|| half("B", found))?)));
        match (split, tensor.shape().len()) {
            (Some((site, "A")), 2) => halves.entry(site.to_owned()).or_default()[0] = Some(tensor.shape().to_vec()),
            (Some((site, "B")), 2) => halves.entry(site.to_owned()).or_default()[1] = Some(tensor.shape().to_vec()),
            _ => strange.push(name),
        }
    }
    strange.sort();
    let (mut sites, mut missing) = (BTreeMap::new(), Vec::new());
    for (site, halves) in halves {
        match halves {
            [Some(a), Some(b)] => drop(sites.insert(site, FactorShape { rank: a[0], d_in: a[1], d_out: b[0] })),
            [a, _] => {
                let half = if a.is_none() { "A" } else { "B" };
                missing.push(format!("base_model.model.{site}.lora_{half}.weight"));
            }
        }
    }
    Ok(Survey { config, sites, formats, parameters, missing, strange })
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_or_strange_is_named_and_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true, "use_dora": true}"#;
        std::fs::write(folder.path().join(CONFIG), config).unwrap();
        let tensors = [
            ("base_model.model.a.q_proj.lora_A.weight", vec![4, 6]),
            ("base_model.model.a.q_proj.lora_B.ranking.weight", vec![2, 4]),
            ("base_model.model.a.k_proj.lora_B.weight", vec![2, 4]),
            ("base_model.model.a.q_proj.lora_magnitude_vector", vec![2]),
        ];
        let bytes = [0; 48];
        let view = |(name, shape): &(&'static str, Vec<usize>)| {
            let size = 2 * shape.iter().product::<usize>();
            (*name, TensorView::new(Dtype::BF16, shape.clone(), &bytes[..size]).unwrap())
        };
        let file = safetensors::serialize(tensors.iter().map(view), None).unwrap();
        std::fs::write(folder.path().join(FACTORS), file).unwrap();
        let found = survey(folder.path()).unwrap();
        assert_eq!(found.sites, [("a.q_proj".to_owned(), FactorShape { rank: 4, d_in: 6, d_out: 2 })].into());
        assert_eq!(found.formats, [("BF16".to_owned(), 4)].into());
        assert_eq!(found.parameters, 24 + 8 + 8 + 2);
        assert_eq!(found.missing, ["base_model.model.a.k_proj.lora_A.weight"]);
        assert_eq!(found.strange, ["base_model.model.a.q_proj.lora_magnitude_vector"]);
        assert_eq!((found.scale(), found.rescaled(), found.ranks()), (Some(4.0), true, [4].into()));
        assert!(matches!(super::super::load(folder.path()), Err(PeftError::Unsupported { key: "use_dora", .. })));
    }

    #[test]
    fn sites_that_only_one_of_the_two_files_speaks_of_are_told() {
        let sites = |names: &[&str]| names.iter().map(|name| format!("m.layers.{name}_proj")).collect::<Vec<String>>();
        let all = sites(&["0.q", "0.v", "1.q", "1.v"]);
        let told = |config: Value, with: &[&str]| {
            let shape = FactorShape { rank: 2, d_in: 4, d_out: 4 };
            let config = config.as_object().unwrap().clone();
            let (formats, sites) = (BTreeMap::new(), sites(with).into_iter().map(|site| (site, shape)).collect());
            Survey { config, sites, formats, parameters: 0, missing: Vec::new(), strange: Vec::new() }.unlike(&all)
        };
        let both = json!({"target_modules": ["q_proj", "v_proj"]});
        assert!(told(both.clone(), &["0.q", "0.v", "1.q", "1.v"]).is_empty());
        let [idle] = &told(both, &["0.q", "0.v", "1.q"])[..] else { panic!() };
        assert!(idle.contains("no factors here") && idle.ends_with(": 1 sites, such as m.layers.1.v_proj"), "{idle}");
        let first = json!({"target_modules": ["q_proj"], "layers_to_transform": [0], "exclude_modules": ["v_proj"]});
        let [other] = &told(first, &["0.q", "1.q"])[..] else { panic!() };
        assert!(other.contains("leaves out") && other.ends_with(": 1 sites, such as m.layers.1.q_proj"), "{other}");
        let patterns = json!({"target_modules": ".*q_proj", "rank_pattern": {"q_proj": 2, "^q_proj": 4}});
        assert_eq!(told(patterns, &["0.q"]), ["rank_pattern: matches no site that has factors: ^q_proj"]);
    }
}
