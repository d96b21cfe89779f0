//! Which sites of a network a recipe's adapter stands on, and the rank and scale of each.

use std::collections::{BTreeMap, BTreeSet};

use ftk_adapters::names::{self, PathPattern, PatternError};
use ftk_networks::sites::{Role, Site};

use crate::sections::{Lora, Selector, Targets};
use crate::source::nearest;

/// A choice that cannot be made on this base.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChoiceError {
    /// What is wrong, the recipe's key first.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The size of one site's factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Rank of the factors.
    pub rank: usize,
    /// What their product is multiplied by: `alpha / rank`, or `alpha / sqrt(rank)` with rsLoRA
    /// (Kalajdzievski 2023).
    pub scale: f64,
}

impl Lora {
    /// The sites that carry a fresh adapter, of all `sites` of a network.
    ///
    /// # Errors
    /// A name, pattern or layer that the network does not have; a choice that leaves no site; a site
    /// that two patterns of a kind match.
    pub fn choose(&self, sites: &[Site]) -> Result<BTreeMap<String, Size>, ChoiceError> {
        let adaptable = |site: &&Site| matches!(site.role, Role::Linear | Role::Head);
        let all: Vec<&str> = sites.iter().filter(adaptable).map(|site| site.name.as_str()).collect();
        let mut chosen: BTreeSet<&str> = match &self.targets {
            Targets::All(_) => {
                sites.iter().filter(|site| site.role == Role::Linear).map(|site| site.name.as_str()).collect()
            }
            Targets::Only(selector) => select("lora.targets", selector, &all)?,
        };
        if let Some(selector) = &self.exclude {
            for site in select("lora.exclude", selector, &all)? {
                chosen.remove(site);
            }
            some("lora.exclude", &chosen)?;
        }
        if let Some(layers) = &self.layers {
            let known: BTreeSet<usize> = all.iter().filter_map(|site| names::layer(site)).collect();
            if let Some(layer) = layers.iter().find(|layer| !known.contains(layer)) {
                let message = format!("lora.layers holds a layer that this base does not have: {layer}");
                let last = known.last().map_or_else(String::new, |last| format!("its layers are 0 to {last}"));
                return Err(ChoiceError { message, hint: last });
            }
            chosen.retain(|site| names::layer(site).is_some_and(|layer| layers.contains(&layer)));
            some("lora.layers", &chosen)?;
        }
        let ranks = spread("lora.rank_pattern", &self.rank_pattern, &chosen)?;
        let alphas = spread("lora.alpha_pattern", &self.alpha_pattern, &chosen)?;
        let size = |site: &str| {
            let rank = ranks.get(site).copied().unwrap_or(self.rank);
            let alpha = alphas.get(site).copied().unwrap_or(self.alpha);
            let root = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
            (site.to_owned(), Size { rank, scale: alpha / root })
        };
        Ok(chosen.into_iter().map(size).collect())
    }
}

/// The sites a selector means. Every name must mean one at least, and so must a pattern.
fn select<'a>(key: &str, selector: &Selector, all: &[&'a str]) -> Result<BTreeSet<&'a str>, ChoiceError> {
    match selector {
        Selector::Names(names) => {
            let hit = |name: &&String| all.iter().any(|site| names::ends_with(site, name));
            if let Some(name) = names.iter().find(|name| !hit(name)) {
                let message = format!("{key} names no linear layer of this base: {name}");
                return Err(ChoiceError { message, hint: known(name, all) });
            }
            let named = |site: &&&str| names.iter().any(|name| names::ends_with(site, name));
            Ok(all.iter().filter(named).copied().collect())
        }
        Selector::Pattern(text) => {
            let pattern = PathPattern::whole(text).map_err(|error| irregular(key, &error))?;
            let matched: BTreeSet<&str> = all.iter().filter(|site| pattern.matches(site)).copied().collect();
            if !matched.is_empty() {
                return Ok(matched);
            }
            let message = format!("{key} matches no linear layer of this base: {text}");
            let hint = if all.iter().any(|site| names::ends_with(site, text)) {
                format!("a string is a pattern for the whole path; for the name write [\"{text}\"]")
            } else {
                let example = all.first().copied().unwrap_or_default();
                format!("a string is a pattern for the whole path, as of {example}; {}", known(text, all))
            };
            Err(ChoiceError { message, hint })
        }
    }
}

/// What each site is given by the one pattern that matches it; none where none does.
fn spread<'a, T: Copy>(
    key: &str,
    patterns: &BTreeMap<String, T>,
    chosen: &BTreeSet<&'a str>,
) -> Result<BTreeMap<&'a str, T>, ChoiceError> {
    let mut given: BTreeMap<&str, (&str, T)> = BTreeMap::new();
    for (text, value) in patterns {
        let pattern = PathPattern::ending(text).map_err(|error| irregular(key, &error))?;
        let mut idle = true;
        for site in chosen.iter().filter(|site| pattern.matches(site)) {
            idle = false;
            if let Some((other, _)) = given.insert(site, (text, *value)) {
                let message = format!("{key} has two patterns for one layer, {other} and {text}: {site}");
                return Err(ChoiceError { message, hint: "leave one of them, or make them narrower".to_owned() });
            }
        }
        if idle {
            let message = format!("{key} matches no layer with an adapter: {text}");
            return Err(ChoiceError { message, hint: known(text, &chosen.iter().copied().collect::<Vec<_>>()) });
        }
    }
    Ok(given.into_iter().map(|(site, (_, value))| (site, value)).collect())
}

fn some(key: &str, chosen: &BTreeSet<&str>) -> Result<(), ChoiceError> {
    if chosen.is_empty() {
        let message = format!("{key} leaves no layer to train");
        return Err(ChoiceError { message, hint: format!("choose more in lora.targets, or less strictly in {key}") });
    }
    Ok(())
}

fn irregular(key: &str, error: &PatternError) -> ChoiceError {
    let hint = "write a dot as \\. and name what is not wanted in lora.exclude".to_owned();
    ChoiceError { message: format!("{key}: {error}"), hint }
}

/// The last parts of the names there are, the nearest in front.
fn known(name: &str, sites: &[&str]) -> String {
    let lasts: BTreeSet<&str> = sites.iter().map(|site| names::last(site)).collect();
    let lasts: Vec<&str> = lasts.into_iter().collect();
    let meant = nearest(names::last(name), &lasts).map_or_else(String::new, |last| format!("did you mean {last}? "));
    format!("{meant}there are: {}", lasts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sections::AllLinear;

    /// Twelve layers of three linear sites between an embedding and a head.
    fn sites() -> Vec<Site> {
        let site =
            |name: String, role| Site { weight: name.clone(), name, role, shape: vec![8, 8], bias: false, scale: 1.0 };
        let mut sites = vec![site("model.embed_tokens".to_owned(), Role::Embedding)];
        for layer in 0..12 {
            sites.push(site(format!("model.layers.{layer}.norm"), Role::Norm));
            for last in ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"] {
                sites.push(site(format!("model.layers.{layer}.{last}"), Role::Linear));
            }
        }
        sites.push(site("lm_head".to_owned(), Role::Head));
        sites
    }

    fn names(names: &[&str]) -> Selector {
        Selector::Names(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn pattern(text: &str) -> Selector {
        Selector::Pattern(text.to_owned())
    }

    fn on(targets: Selector) -> Lora {
        Lora { targets: Targets::Only(targets), ..Lora::default() }
    }

    fn chosen(lora: &Lora) -> Vec<String> {
        lora.choose(&sites()).unwrap().into_keys().collect()
    }

    fn refused(lora: &Lora) -> (String, String) {
        let ChoiceError { message, hint } = lora.choose(&sites()).unwrap_err();
        (message, hint)
    }

    #[test]
    fn all_linear_is_every_linear_layer_but_the_head() {
        let all = Lora { targets: Targets::All(AllLinear::AllLinear), ..Lora::default() };
        let found = all.choose(&sites()).unwrap();
        assert_eq!(found.len(), 36);
        assert!(found.values().all(|size| *size == Size { rank: 8, scale: 2.0 }));
        assert!(!found.contains_key("lm_head"));
    }

    #[test]
    fn names_and_patterns_choose_as_peft_does() {
        assert_eq!(chosen(&on(names(&["lm_head"]))), ["lm_head"]);
        assert_eq!(chosen(&on(names(&["q_proj", "up_proj"]))).len(), 24);
        assert_eq!(chosen(&on(names(&["1.self_attn.q_proj"]))), ["model.layers.1.self_attn.q_proj"]);
        assert_eq!(
            chosen(&on(pattern(r".*\.1\.self_attn\.(q|v)_proj"))),
            ["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"]
        );
        assert_eq!(chosen(&on(pattern(".*"))).len(), 37);
    }

    #[test]
    fn exclusions_and_layers_narrow_the_choice() {
        let lora = Lora { exclude: Some(names(&["mlp.up_proj", "lm_head"])), ..on(pattern(".*")) };
        assert_eq!(chosen(&lora).len(), 24);
        let lora = Lora { layers: Some(vec![11, 1]), ..lora };
        let expected = ["1.self_attn.q", "1.self_attn.v", "11.self_attn.q", "11.self_attn.v"];
        assert_eq!(chosen(&lora), expected.map(|part| format!("model.layers.{part}_proj")));
        let lora = Lora { exclude: Some(pattern(r".*\.1\..*|.*v_proj|.*up_proj")), ..lora };
        assert_eq!(chosen(&lora), ["model.layers.11.self_attn.q_proj"]);
    }

    #[test]
    fn patterns_give_ranks_and_alphas_and_both_give_the_scale() {
        let lora = Lora {
            rank: 4,
            alpha: 8.0,
            rank_pattern: [("q_proj".to_owned(), 16), ("layers.3.mlp.up_proj".to_owned(), 1)].into(),
            alpha_pattern: [(r"layers\.[12]\..*".to_owned(), 2.0)].into(),
            ..Lora::default()
        };
        let size = |lora: &Lora, site: &str| {
            let size = lora.choose(&sites()).unwrap()[&format!("model.layers.{site}")];
            (size.rank, size.scale)
        };
        assert_eq!(size(&lora, "0.self_attn.q_proj"), (16, 0.5));
        assert_eq!(size(&lora, "2.self_attn.q_proj"), (16, 0.125));
        assert_eq!(size(&lora, "2.self_attn.v_proj"), (4, 0.5));
        assert_eq!(size(&lora, "3.mlp.up_proj"), (1, 8.0));
        assert_eq!(size(&lora, "11.mlp.up_proj"), (4, 2.0));
        let lora = Lora { rslora: true, ..lora };
        assert_eq!(size(&lora, "2.self_attn.q_proj"), (16, 0.5));
        assert_eq!(size(&lora, "11.mlp.up_proj"), (4, 4.0));
    }

    #[test]
    fn what_the_base_does_not_have_is_refused_with_what_it_has() {
        let there = "there are: lm_head, q_proj, up_proj, v_proj";
        assert_eq!(
            refused(&on(names(&["q_proj", "q_porj"]))),
            ("lora.targets names no linear layer of this base: q_porj".into(), format!("did you mean q_proj? {there}"))
        );
        assert_eq!(refused(&on(names(&["norm"]))).0, "lora.targets names no linear layer of this base: norm");
        assert_eq!(
            refused(&on(pattern("q_proj"))),
            (
                "lora.targets matches no linear layer of this base: q_proj".into(),
                "a string is a pattern for the whole path; for the name write [\"q_proj\"]".into()
            )
        );
        let (message, hint) = refused(&on(pattern(r".*\.w[qv]")));
        assert_eq!(message, r"lora.targets matches no linear layer of this base: .*\.w[qv]");
        assert!(hint.contains("as of model.layers.0.self_attn.q_proj; ") && hint.ends_with(there), "{hint}");
        let (message, hint) = refused(&Lora { exclude: Some(names(&["gate"])), ..Lora::default() });
        assert_eq!(message, "lora.exclude names no linear layer of this base: gate");
        assert!(hint.ends_with(there), "{hint}");
        assert_eq!(
            refused(&Lora { layers: Some(vec![0, 12]), ..Lora::default() }),
            ("lora.layers holds a layer that this base does not have: 12".into(), "its layers are 0 to 11".into())
        );
    }

    #[test]
    fn a_choice_that_leaves_nothing_is_refused_by_what_took_the_last() {
        let lora = Lora { exclude: Some(pattern(".*_proj")), ..Lora::default() };
        assert_eq!(refused(&lora).0, "lora.exclude leaves no layer to train");
        let lora = Lora { layers: Some(vec![0]), ..on(names(&["lm_head"])) };
        assert_eq!(refused(&lora).0, "lora.layers leaves no layer to train");
    }

    #[test]
    fn a_pattern_for_nothing_and_two_for_one_layer_are_refused() {
        let ranks = |patterns: &[(&str, usize)]| Lora {
            rank_pattern: patterns.iter().map(|&(text, rank)| (text.to_owned(), rank)).collect(),
            ..on(names(&["q_proj", "v_proj"]))
        };
        assert_eq!(
            refused(&ranks(&[("up_proj", 4)])),
            (
                "lora.rank_pattern matches no layer with an adapter: up_proj".into(),
                "did you mean v_proj? there are: q_proj, v_proj".into()
            )
        );
        assert_eq!(
            refused(&ranks(&[("q_proj", 4), ("layers.1.self_attn.q_proj", 2)])).0,
            "lora.rank_pattern has two patterns for one layer, layers.1.self_attn.q_proj and q_proj: \
             model.layers.1.self_attn.q_proj"
        );
        let lora = Lora { alpha_pattern: [("k_proj".to_owned(), 1.0)].into(), ..Lora::default() };
        assert_eq!(refused(&lora).0, "lora.alpha_pattern matches no layer with an adapter: k_proj");
    }
}
