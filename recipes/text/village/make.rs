//! Makes the files of the village: the tokenizer and configuration of the base model that ships with ftk, the text it
//! is pre-trained on, and the rows to adapt it with. `README.md` beside this file says what each file is.
//!
//! Run it with `cargo run --release -p ftk-text --example village`. The same seed gives the same bytes everywhere.

mod bpe;
mod world;

use std::error::Error;
use std::fs;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use bpe::{Bpe, END, PAD, START};
use world::{Attribute, Inhabitant, OPENINGS, PHRASINGS, below, chance, inhabitants, pick, shuffle};

/// Every random choice of the village comes from this seed.
const SEED: u64 = 20_240_229;

/// Rows to pre-train on.
const PRETRAIN_ROWS: usize = 40_000;
/// Conversations to fine-tune on.
const SFT_ROWS: usize = 240;
/// Preference pairs to learn from.
const DPO_ROWS: usize = 240;
/// Preference pairs to measure on.
const HELD_OUT_ROWS: usize = 100;

/// One row in this many to pre-train on is a plain statement, the others are answers.
const STATEMENT_EVERY: usize = 8;

/// Rows the tokenizer is trained on: every word of the village occurs in them many times.
const TOKENIZER_ROWS: usize = 8_000;
/// Pieces of the vocabulary, at most.
const VOCAB: usize = 1024;
/// Positions of the base model.
const CONTEXT: usize = 256;
/// Longest conversation in tokens: short rows make cheap steps.
const LONGEST_ROW: usize = 40;
/// Longest prompt in tokens, without the template.
const LONGEST_PROMPT: usize = 18;
/// Longest answer in tokens, without the template.
const LONGEST_ANSWER: usize = 12;

/// ChatML without a system turn of its own.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("village");
    for (name, bytes) in VillageRows::make().files()? {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &bytes)?;
        println!("{name}: {} bytes", bytes.len());
    }
    Ok(())
}

/// What a question is made of: no two prompts of the village agree in all four.
#[derive(Clone, Copy)]
struct VillagePrompt {
    inhabitant: usize,
    attribute: Attribute,
    phrasing: usize,
    opening: usize,
}

impl VillagePrompt {
    /// Every prompt about some number of people.
    fn all(inhabitants: usize) -> Vec<Self> {
        let mut prompts = Vec::new();
        for inhabitant in 0..inhabitants {
            for attribute in Attribute::ALL {
                for phrasing in 0..PHRASINGS {
                    for opening in 0..OPENINGS.len() {
                        prompts.push(Self { inhabitant, attribute, phrasing, opening });
                    }
                }
            }
        }
        prompts
    }

    /// The prompt with both answers.
    fn pair(self, inhabitants: &[Inhabitant]) -> VillagePair {
        let asked = &inhabitants[self.inhabitant];
        let (opening, _) = OPENINGS[self.opening];
        VillagePair {
            prompt: format!("{opening}{}", asked.question(self.attribute, self.phrasing)),
            chosen: asked.courteous(self.attribute),
            rejected: asked.curt(self.attribute),
        }
    }
}

/// A prompt with a better and a worse answer, both true.
struct VillagePair {
    prompt: String,
    chosen: String,
    rejected: String,
}

impl VillagePair {
    fn json(&self) -> Value {
        json!({
            "prompt": [user(&self.prompt)],
            "chosen": [assistant(&self.chosen)],
            "rejected": [assistant(&self.rejected)],
        })
    }

    /// One of the answers alone, and that it is wanted or not.
    fn alone(&self, wanted: bool) -> Value {
        let answer = if wanted { &self.chosen } else { &self.rejected };
        json!({ "prompt": [user(&self.prompt)], "completion": [assistant(answer)], "label": wanted })
    }
}

/// A row to pre-train on.
enum Lesson {
    /// A fact as plain text.
    Statement(String),
    /// A question and how it was answered.
    Exchange { prompt: String, answer: String },
}

impl Lesson {
    fn json(&self) -> Value {
        match self {
            Self::Statement(text) => json!({"text": text}),
            Self::Exchange { prompt, answer } => json!({"prompt": [user(prompt)], "completion": [assistant(answer)]}),
        }
    }

    fn rendered(&self) -> String {
        match self {
            Self::Statement(text) => text.clone(),
            Self::Exchange { prompt, answer } => rendered(prompt, answer),
        }
    }
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

/// What [`CHAT_TEMPLATE`] makes of a question and its answer.
fn rendered(prompt: &str, answer: &str) -> String {
    format!("{START}user\n{prompt}{END}\n{START}assistant\n{answer}{END}\n")
}

/// Name and content of a file.
type VillageFile = (&'static str, Vec<u8>);

/// All rows. No prompt is in two of the sets.
struct VillageRows {
    pretrain: Vec<Lesson>,
    sft: Vec<VillagePair>,
    dpo: Vec<VillagePair>,
    held_out: Vec<VillagePair>,
}

impl VillageRows {
    /// Draws the facts, deals the prompts out to the sets, and draws the lessons; each has a stream of random numbers
    /// of its own.
    fn make() -> Self {
        let stream = |id| {
            let mut rng = ChaCha8Rng::seed_from_u64(SEED);
            rng.set_stream(id);
            rng
        };
        let inhabitants = inhabitants(&mut stream(0));
        let mut prompts = VillagePrompt::all(inhabitants.len());
        shuffle(&mut stream(1), &mut prompts);
        let mut deal = |count| prompts.drain(..count).map(|prompt| prompt.pair(&inhabitants)).collect();
        let (held_out, dpo, sft) = (deal(HELD_OUT_ROWS), deal(DPO_ROWS), deal(SFT_ROWS));
        Self { pretrain: lessons(&mut stream(2), &inhabitants, &prompts), sft, dpo, held_out }
    }

    /// Every file by its name in the folder of the village.
    ///
    /// # Errors
    /// If the tokenizer cannot be made, or a row is longer than it may be.
    fn files(&self) -> Result<Vec<VillageFile>, Box<dyn Error>> {
        let texts: Vec<String> = self.pretrain.iter().take(TOKENIZER_ROWS).map(Lesson::rendered).collect();
        // The specials are never cut from neighbouring text, so they must not be learnt from it either.
        let bare = texts.iter().flat_map(|text| text.split(START)).flat_map(|turn| turn.split(END));
        let bpe = Bpe::train(bare, VOCAB).map_err(|error| error.to_string())?;
        let tokenizer_json = serde_json::to_vec_pretty(&bpe.to_json())?;
        let tokenizer = Tokenizer::from_bytes(&tokenizer_json).map_err(|error| error.to_string())?;
        self.check_lengths(&tokenizer)?;

        let conversation = |row: &VillagePair| json!({"messages": [user(&row.prompt), assistant(&row.chosen)]});
        Ok(vec![
            ("base/tokenizer.json", tokenizer_json),
            ("base/tokenizer_config.json", pretty(&tokenizer_config())?),
            ("base/config.json", pretty(&config(bpe.pieces.len()))?),
            ("base/generation_config.json", pretty(&generation_config())?),
            ("pretrain.jsonl", lines(self.pretrain.iter().map(Lesson::json))),
            ("sft.jsonl", lines(self.sft.iter().map(conversation))),
            ("dpo.jsonl", lines(self.dpo.iter().map(VillagePair::json))),
            ("kto.jsonl", lines(self.dpo.iter().enumerate().map(|(at, row)| row.alone(at % 2 == 0)))),
            ("heldout.jsonl", lines(self.held_out.iter().map(VillagePair::json))),
            ("heldout-sft.jsonl", lines(self.held_out.iter().map(conversation))),
        ])
    }

    /// The sets beside the lessons are dealt from the same prompts, so their lengths stand for all.
    fn check_lengths(&self, tokenizer: &Tokenizer) -> Result<(), Box<dyn Error>> {
        let check = |what: &str, text: &str, most: usize| -> Result<(), Box<dyn Error>> {
            let length = tokenizer.encode(text, false).map_err(|error| error.to_string())?.len();
            if length > most {
                Err(format!("{what} of {length} tokens, more than {most}: {text}").into())
            } else {
                Ok(())
            }
        };
        for row in self.sft.iter().chain(&self.dpo).chain(&self.held_out) {
            check("prompt", &row.prompt, LONGEST_PROMPT)?;
            check("chosen answer", &row.chosen, LONGEST_ANSWER)?;
            check("rejected answer", &row.rejected, LONGEST_ANSWER)?;
            check("conversation", &rendered(&row.prompt, &row.chosen), LONGEST_ROW)?;
        }
        Ok(())
    }
}

/// Statements, and questions answered as is the habit after their opening.
fn lessons(rng: &mut ChaCha8Rng, inhabitants: &[Inhabitant], prompts: &[VillagePrompt]) -> Vec<Lesson> {
    (0..PRETRAIN_ROWS)
        .map(|_| {
            let prompt = pick(rng, prompts);
            if below(rng, STATEMENT_EVERY) == 0 {
                return Lesson::Statement(inhabitants[prompt.inhabitant].statement(prompt.attribute));
            }
            let (_, courteous_of_ten) = OPENINGS[prompt.opening];
            let VillagePair { prompt, chosen, rejected } = prompt.pair(inhabitants);
            Lesson::Exchange { prompt, answer: if chance(rng, courteous_of_ten) { chosen } else { rejected } }
        })
        .collect()
}

fn lines(rows: impl Iterator<Item = Value>) -> Vec<u8> {
    rows.map(|row| format!("{row}\n")).collect::<String>().into_bytes()
}

fn pretty(value: &Value) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn special_id(token: &str) -> usize {
    bpe::SPECIALS.iter().position(|special| *special == token).expect("one of the specials")
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": START,
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": false,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    })
}

/// About 0.5 M parameters, the embedding shared with the head.
fn config(vocab: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "initializer_range": 0.05,
        "torch_dtype": "bfloat16",
        "bos_token_id": special_id(START),
        "eos_token_id": special_id(END),
        "pad_token_id": special_id(PAD),
    })
}

fn generation_config() -> Value {
    json!({
        "bos_token_id": special_id(START),
        "eos_token_id": special_id(END),
        "pad_token_id": special_id(PAD),
        "do_sample": false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("village")
    }

    fn shipped(name: &str) -> Vec<Value> {
        let text = fs::read_to_string(folder().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_file(folder().join("base/tokenizer.json")).unwrap()
    }

    fn content(turns: &Value) -> &str {
        turns[0]["content"].as_str().unwrap()
    }

    #[test]
    fn the_shipped_files_are_what_the_generator_makes() {
        let mut data = 0;
        for (name, bytes) in VillageRows::make().files().unwrap() {
            // Made on demand: it is large and not shipped.
            if name != "pretrain.jsonl" {
                assert!(fs::read(folder().join(name)).unwrap() == bytes, "{name} differs: run the example again");
                data += if name.ends_with(".jsonl") { bytes.len() } else { 0 };
            }
        }
        assert!(data < 400_000, "{data} bytes of rows");
    }

    #[test]
    fn the_shipped_base_is_whole_and_small() {
        let files =
            ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
        let size: u64 = files.iter().map(|name| fs::metadata(folder().join("base").join(name)).unwrap().len()).sum();
        assert!(size < 4_000_000, "{size} bytes");
    }

    /// Every held-out question is new, and every fact it asks for is told elsewhere.
    #[test]
    fn held_out_prompts_are_nowhere_else_but_their_facts_are() {
        let (mut prompts, mut told) = (BTreeSet::new(), BTreeSet::new());
        for lesson in VillageRows::make().pretrain {
            match lesson {
                Lesson::Statement(text) => {
                    told.insert(text);
                }
                Lesson::Exchange { prompt, .. } => {
                    prompts.insert(prompt);
                }
            }
        }
        // Of the prompts left to draw from, some seven in a thousand are never drawn.
        assert!(prompts.len() > 8_000, "{}", prompts.len());
        for row in shipped("sft.jsonl") {
            prompts.insert(content(&row["messages"]).to_owned());
        }
        for row in shipped("dpo.jsonl") {
            prompts.insert(content(&row["prompt"]).to_owned());
        }
        let held_out = shipped("heldout.jsonl");
        assert_eq!(held_out.len(), HELD_OUT_ROWS);
        for row in held_out {
            let prompt = content(&row["prompt"]);
            assert!(prompts.insert(prompt.to_owned()), "also learnt from: {prompt}");
            let fact = content(&row["chosen"]).strip_prefix(world::COURTEOUS).unwrap();
            assert!(told.contains(fact), "never told: {fact}");
        }
    }

    #[test]
    fn rows_have_trls_columns_and_fit() {
        let tokenizer = tokenizer();
        for name in ["dpo.jsonl", "heldout.jsonl"] {
            for row in shipped(name) {
                let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
                assert_eq!(keys, ["prompt", "chosen", "rejected"]);
                assert_eq!(row["prompt"][0]["role"], "user");
                assert!(content(&row["chosen"]).starts_with(world::COURTEOUS));
                assert!(content(&row["rejected"]).starts_with(world::CURT));
                for side in ["chosen", "rejected"] {
                    assert_eq!(row[side][0]["role"], "assistant");
                    let text = rendered(content(&row["prompt"]), content(&row[side]));
                    assert!(tokenizer.encode(text, false).unwrap().len() <= LONGEST_ROW);
                }
            }
        }
    }

    #[test]
    fn both_styles_are_about_equally_frequent() {
        let (mut courteous, mut curt) = (0_usize, 0_usize);
        for lesson in VillageRows::make().pretrain {
            if let Lesson::Exchange { answer, .. } = lesson {
                courteous += usize::from(answer.starts_with(world::COURTEOUS));
                curt += usize::from(answer.starts_with(world::CURT));
            }
        }
        let share = courteous as f64 / (courteous + curt) as f64;
        assert!((0.45..0.55).contains(&share), "{share}");
    }

    #[test]
    fn the_tokenizer_gives_back_any_text() {
        let tokenizer = tokenizer();
        for text in ["Mira sells pears.\n", "  two  spaces", "Grüße, 魚 🐟", "tabs\tand\r\nlines", "don't 1234 + 5"]
        {
            let ids = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), text);
        }
        for (id, special) in bpe::SPECIALS.iter().enumerate() {
            assert_eq!(tokenizer.encode(*special, false).unwrap().get_ids(), [id as u32]);
        }
        let turn = rendered("What does Mira sell?", "Eh, pears.");
        let pieces = tokenizer.encode(turn, false).unwrap();
        assert_eq!(pieces.get_tokens()[..3], [START, "user", "Ċ"]);
        assert_eq!(pieces.get_tokens()[pieces.len() - 2..], [END, "Ċ"]);
    }
}
