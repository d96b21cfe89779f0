//! A recipe's text with what `--set` lays over it, and where in them a key stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::error::RecipeError;

/// One `key=value` from the command line, read as a line of TOML that stands behind the recipe's text.
pub struct Override {
    key: String,
    /// First byte of its line, counted from the first byte of the recipe.
    start: usize,
    /// The line after as many blanks, so that the reader's positions are distinct from all others.
    text: String,
}

impl Override {
    /// Reads overrides of a recipe that is `length` bytes long.
    pub fn read(settings: &[String], length: usize) -> Result<Vec<Self>, RecipeError> {
        let mut start = length + 1;
        let mut overrides = Vec::new();
        for setting in settings {
            let found = Self::parse(setting, start)?;
            start = found.text.len() + 1;
            overrides.push(found);
        }
        Ok(overrides)
    }

    fn parse(setting: &str, start: usize) -> Result<Self, RecipeError> {
        let refuse = |key: &str, message: String| RecipeError {
            path: place(key),
            line: None,
            key: None,
            message,
            hint: Some("write --set key=value, for example --set optim.lr=1e-4; text in quotes is always text".into()),
        };
        let Some((key, value)) = setting.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            return Err(refuse(setting, "has no value".to_owned()));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if key.is_empty() || !key.chars().all(plain) {
            return Err(refuse(key, "is no dotted key".to_owned()));
        }
        let line = |value: &str| format!("{:start$}{key} = {value}", "");
        let read = |text: &str| DeTable::parse(text).map(drop).map_err(|error| error.message().replace('\n', ", "));
        let mut text = line(value);
        if let Err(message) = read(&text) {
            // A bare word or path is text: shells eat the quotes that TOML wants.
            let word = value.starts_with(|c: char| c.is_ascii_alphanumeric() || "_./~".contains(c));
            text = line(&toml::Value::from(value).to_string());
            if !word || read(&text).is_err() {
                return Err(refuse(key, message));
            }
        }
        Ok(Self { key: key.to_owned(), start, text })
    }
}

/// What an error calls the place of an override.
fn place(key: &str) -> PathBuf {
    PathBuf::from(format!("--set {key}"))
}

/// A recipe's text with the path it came from.
pub struct RecipeSource<'a> {
    path: &'a Path,
    text: &'a str,
    overrides: &'a [Override],
    /// The text with the overrides in their places.
    document: Spanned<DeTable<'a>>,
}

impl<'a> RecipeSource<'a> {
    /// A text with overrides laid over it; `path` names it in errors.
    ///
    /// # Errors
    /// What is not TOML.
    pub fn new(path: &'a Path, text: &'a str, overrides: &'a [Override]) -> Result<Self, RecipeError> {
        let empty = Spanned::new(0..0, DeTable::new());
        let mut source = Self { path, text, overrides, document: empty };
        source.document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        for over in overrides {
            let line = DeTable::parse(&over.text).expect("it was read before").into_inner();
            lay_over(source.document.get_mut(), line);
        }
        Ok(source)
    }

    /// The values as a type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RecipeError> {
        T::deserialize(Deserializer::from(self.document.clone())).map_err(|error| self.syntax(&error))
    }

    /// A value that breaks a rule.
    pub fn refuse(&self, key: &str, rule: &str) -> RecipeError {
        let span = self.span(key);
        if let Some(over) = span.as_ref().and_then(|span| self.over(span.start)) {
            let key = (over.key != key).then(|| key.to_owned());
            return RecipeError { path: place(&over.key), line: None, key, message: rule.to_owned(), hint: None };
        }
        RecipeError {
            path: self.path.to_owned(),
            line: span.map(|span| self.line(span.start)),
            key: Some(key.to_owned()),
            message: rule.to_owned(),
            hint: None,
        }
    }

    /// Dotted names of all values and empty tables, in the order of the recipe's text and then of the overrides.
    pub(crate) fn written(&self) -> Vec<String> {
        fn walk(table: &DeTable<'_>, prefix: &str, found: &mut Vec<(usize, String)>) {
            for (name, value) in table {
                let path = format!("{prefix}{}", name.get_ref());
                match value.get_ref() {
                    DeValue::Table(inner) if !inner.is_empty() => walk(inner, &format!("{path}."), found),
                    _ => found.push((name.span().start, path)),
                }
            }
        }
        let mut found = Vec::new();
        walk(self.document.get_ref(), "", &mut found);
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Whether the value of a key was laid over the recipe's text.
    pub fn is_typed(&self, key: &str) -> bool {
        self.span(key).is_some_and(|span| self.over(span.start).is_some())
    }

    /// What the TOML reader refused.
    fn syntax(&self, error: &toml::de::Error) -> RecipeError {
        let message = error.message().trim_end_matches('\n');
        let (message, hint) = match unknown_key(message) {
            Some((key, known)) => (format!("unknown key: {key}"), hint(key, &known)),
            None => (in_words(&message.replace('\n', ", ")), self.other_format()),
        };
        if let Some(over) = error.span().and_then(|span| self.over(span.start)) {
            return RecipeError { path: place(&over.key), line: None, key: None, message, hint };
        }
        let line = error.span().map(|span| self.line(span.start));
        RecipeError { path: self.path.to_owned(), line, key: None, message, hint }
    }

    /// What to say of a file that is no TOML for being something else.
    fn other_format(&self) -> Option<String> {
        let ending = self.path.extension()?.to_str()?.to_ascii_lowercase();
        let others = [("yaml", "YAML"), ("yml", "YAML"), ("json", "JSON")];
        let (_, other) = others.into_iter().find(|(name, _)| *name == ending)?;
        Some(format!("recipes are TOML, not {other}: `ftk recipes cp sft mine.toml` makes one to begin with"))
    }

    /// The override that holds a position, if it is not the recipe's own text that does.
    fn over(&self, offset: usize) -> Option<&Override> {
        self.overrides.iter().find(|over| (over.start..=over.text.len()).contains(&offset))
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The place of a dotted key, or of the deepest part of it that is written down.
    fn span(&self, key: &str) -> Option<Range<usize>> {
        let mut table = self.document.get_ref();
        let mut found = None;
        for part in key.split('.') {
            let Some((name, value)) = table.get_key_value(part) else { break };
            found = Some(name.span());
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        found
    }
}

/// Tables are merged, anything else is replaced.
fn lay_over<'a>(below: &mut DeTable<'a>, above: DeTable<'a>) {
    for (key, value) in above {
        let name: &str = key.get_ref();
        match (below.get_mut(name).map(Spanned::get_mut), parts(value)) {
            (Some(DeValue::Table(below)), (DeValue::Table(above), _)) => lay_over(below, above),
            (_, (value, span)) => {
                // The key goes too: it carries the place.
                below.remove(name);
                below.insert(key, Spanned::new(span, value));
            }
        }
    }
}

/// A value and where it stands.
fn parts(value: Spanned<DeValue<'_>>) -> (DeValue<'_>, Range<usize>) {
    let span = value.span();
    (value.into_inner(), span)
}

/// Takes apart serde's sentence about an unknown field: the field and those expected.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// A message without the names that Rust has for kinds of values.
fn in_words(message: &str) -> String {
    let Some((before, kind)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let words = match kind {
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number from 0",
        "isize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{before}, expected {words}")
}

fn hint(key: &str, known: &[&str]) -> Option<String> {
    if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == key) {
        return Some((*reason).to_owned());
    }
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(name, _)| *name == key) {
        return Some(format!("here it is called {ours}"));
    }
    Some(match nearest(key, known) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// Keys of other programs that are left out on purpose, with the reason.
const REFUSED: [(&str, &str); 2] = [("dora", NO_DORA), ("use_dora", NO_DORA)];

/// What other programs (transformers, PEFT, TRL, axolotl, LLaMA-Factory) call keys that are called otherwise here, and
/// stand in a section.
pub(crate) const ELSEWHERE: [(&str, &str); 40] = [
    ("adam_epsilon", "optim.eps"),
    ("base_model", "base.model"),
    ("cutoff_len", "data.max_length"),
    ("dataset", "data.train"),
    ("datasets", "data.train"),
    ("dpo_beta", "dpo.beta"),
    ("eval_steps", "run.eval_every"),
    ("gradient_accumulation_steps", "run.accumulate"),
    ("gradient_checkpointing", "run.recompute"),
    ("learning_rate", "optim.lr"),
    ("loss_type", "dpo.loss"),
    ("lora_alpha", "lora.alpha"),
    ("lora_dropout", "lora.dropout"),
    ("lora_r", "lora.rank"),
    ("lora_rank", "lora.rank"),
    ("lora_target", "lora.targets"),
    ("lora_target_modules", "lora.targets"),
    ("lr_scheduler", "optim.schedule"),
    ("lr_scheduler_type", "optim.schedule"),
    ("max_grad_norm", "optim.max_grad_norm"),
    ("max_length", "data.max_length"),
    ("max_seq_len", "data.max_length"),
    ("max_seq_length", "data.max_length"),
    ("max_steps", "run.steps"),
    ("micro_batch_size", "run.batch"),
    ("model_name_or_path", "base.model"),
    ("num_epochs", "run.epochs"),
    ("num_train_epochs", "run.epochs"),
    ("output_dir", "run.out"),
    ("packing", "data.packing"),
    ("per_device_train_batch_size", "run.batch"),
    ("pref_beta", "dpo.beta"),
    ("r", "lora.rank"),
    ("sample_packing", "data.packing"),
    ("save_steps", "run.save_every"),
    ("seed", "run.seed"),
    ("sequence_len", "data.max_length"),
    ("target_modules", "lora.targets"),
    ("warmup_steps", "optim.warmup_steps"),
    ("weight_decay", "optim.weight_decay"),
];

const NO_DORA: &str =
    "DoRA rescales the base's own output beside adding to it; proofs are about what is added, so there is only LoRA";

/// The name that is so near to `name` that it may have been meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |other: &str| strsim::jaro_winkler(name, other);
    known.iter().copied().filter(|other| near(other) > 0.7).max_by(|a, b| near(a).total_cmp(&near(b)))
}
