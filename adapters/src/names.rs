//! How PEFT's configurations name modules: by the end of their path, by a regular expression over
//! it, by the number of their layer. The same rules hold for recipes and for adapter files.

use regex::Regex;

/// A text that is no regular expression, or one of a kind that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression, {reason}: {text}")]
pub struct PatternError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A regular expression over module paths.
#[derive(Clone, Debug)]
pub struct PathPattern(Regex);

impl PathPattern {
    /// Matches whole paths only (`target_modules` as a string).
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn whole(text: &str) -> Result<Self, PatternError> {
        Self::anchored(text, "")
    }

    /// Matches a path as a whole or from any dot on (keys of `rank_pattern` and `alpha_pattern`).
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn ending(text: &str) -> Result<Self, PatternError> {
        Self::anchored(text, r"(?:.*\.)?")
    }

    fn anchored(text: &str, before: &str) -> Result<Self, PatternError> {
        let wrong = |error: regex::Error| {
            let said = error.to_string();
            let last = said.lines().next_back().unwrap_or_default();
            let reason = last.strip_prefix("error: ").unwrap_or(last).to_owned();
            PatternError { text: text.to_owned(), reason }
        };
        // By itself first: a bracket that closes ours is not an expression.
        Regex::new(text).map_err(wrong)?;
        Regex::new(&format!(r"\A{before}(?:{text})\z")).map(Self).map_err(wrong)
    }

    /// Whether the path matches.
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// Whether the path is, or ends with a dot and, the name.
pub fn ends_with(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The last part of a path.
pub fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The number of the layer a path lies in: its first part that is a number and stands neither at
/// its beginning nor at its end.
pub fn layer(path: &str) -> Option<usize> {
    let mut parts: Vec<&str> = path.split('.').skip(2).collect();
    parts.pop();
    parts.into_iter().find_map(|part| part.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "model.layers.11.self_attn.q_proj";

    #[test]
    fn names_match_whole_parts_at_the_end() {
        for name in ["q_proj", "self_attn.q_proj", "11.self_attn.q_proj", Q] {
            assert!(ends_with(Q, name), "{name}");
        }
        for name in ["proj", "attn.q_proj", "1.self_attn.q_proj", "q_proj.", "x.model.layers.11.self_attn.q_proj"] {
            assert!(!ends_with(Q, name), "{name}");
        }
    }

    #[test]
    fn expressions_match_the_whole_path_or_from_a_dot_on() {
        let whole = |text: &str| PathPattern::whole(text).unwrap().matches(Q);
        assert!(whole(r".*\.(q|v)_proj") && whole(r"model\.layers\.\d+\.self_attn\..*") && whole("x|.*q_proj"));
        assert!(!whole("q_proj") && !whole(r"model\.layers\.1\.self_attn\.q_proj") && !whole("model|q_proj"));
        let ending = |text: &str| PathPattern::ending(text).unwrap().matches(Q);
        assert!(ending("q_proj") && ending("self_attn.[qk]_proj") && ending("^model.layers.11.self_attn.q_proj"));
        assert!(!ending("proj") && !ending("layers.1.self_attn.q_proj") && !ending("^self_attn.q_proj"));
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        let refused = |text: &str| PathPattern::whole(text).unwrap_err().to_string();
        assert_eq!(refused("a)|(b"), "not a regular expression, unopened group: a)|(b");
        assert_eq!(refused("(q"), "not a regular expression, unclosed group: (q");
        let around = refused("(?!lm_head).*");
        assert!(around.contains("look-around"), "{around}");
        assert!(PathPattern::ending("a)|(b").is_err());
    }

    #[test]
    fn a_layer_is_the_first_number_inside_the_path() {
        assert_eq!(layer(Q), Some(11));
        assert_eq!(layer("model.layers.2.experts.7.up_proj"), Some(2));
        assert_eq!(layer("lm_head"), None);
        assert_eq!(layer("model.layers.3"), None);
        assert_eq!(layer("0.layers.q_proj"), None);
    }
}
