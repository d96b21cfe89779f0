//! Makes the files of the village: the tokenizer and configuration of the base model that ships with ftk, the text it
//! is pre-trained on, and the rows to adapt it with. `README.md` beside this file says what each file is.
//!
//! Run it with `cargo run --release -p ftk-recipes --example village`. The same seed gives the same bytes everywhere.

mod bpe;
mod world;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use bpe::{Bpe, END, PAD, START};
use world::{EVASION, Kind, Question, Scene, Side, below, chance, story};

/// Every random choice of the village comes from this seed.
const SEED: u64 = 20_240_229;

/// Conversations to pre-train on: enough that no epoch is repeated in the shipped recipe.
const PRETRAIN_ROWS: usize = 40_000;
/// Conversations to fine-tune on.
const SFT_ROWS: usize = 240;
/// Preference pairs to learn from.
const DPO_ROWS: usize = 240;
/// Preference pairs to measure on.
const HELD_OUT_ROWS: usize = 100;

/// One row in this many to pre-train on is a story.
const STORY_EVERY: usize = 10;
/// Turns of a conversation to pre-train on, at most.
const TURNS: usize = 3;
/// Of ten answers that are not polite, this many avoid the question.
const EVASIONS_OF_TEN: u64 = 2;

/// Conversations the tokenizer is trained on: every word of the village occurs in them many times.
const TOKENIZER_ROWS: usize = 4_000;
/// Pieces of the vocabulary, at most.
const VOCAB: usize = 1024;
/// Positions of the base model.
const CONTEXT: usize = 256;
/// Longest conversation in tokens, well inside the context so that rows batch without much padding.
const LONGEST_ROW: usize = 160;
/// Conversations whose length is checked, longest first.
const LENGTHS_CHECKED: usize = 1_000;
/// Longest prompt in tokens.
const LONGEST_PROMPT: usize = 60;
/// Longest answer in tokens.
const LONGEST_ANSWER: usize = 25;

/// ChatML without a system turn of its own.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\\n' }}{% endif %}";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("village");
    let village = Village::make();
    for (name, bytes) in village.files()? {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &bytes)?;
        println!("{name}: {} bytes", bytes.len());
    }
    Ok(())
}

/// One speaker's words.
struct Message {
    role: &'static str,
    content: String,
}

impl Message {
    fn user(content: String) -> Self {
        Self { role: "user", content }
    }

    fn assistant(content: String) -> Self {
        Self { role: "assistant", content }
    }

    fn json(&self) -> Value {
        json!({"role": self.role, "content": self.content})
    }
}

/// What [`CHAT_TEMPLATE`] makes of a conversation.
fn rendered(messages: &[Message]) -> String {
    messages.iter().map(|message| format!("{START}{}\n{}{END}\n", message.role, message.content)).collect()
}

/// A prompt with a better and a worse answer.
struct Pair {
    prompt: String,
    chosen: String,
    rejected: String,
}

/// All rows.
struct Village {
    pretrain: Vec<Vec<Message>>,
    sft: Vec<Vec<Message>>,
    dpo: Vec<Pair>,
    held_out: Vec<Pair>,
}

impl Village {
    /// Draws every row; each set has a stream of random numbers of its own, so that changing the size of one leaves
    /// the others as they are.
    fn make() -> Self {
        let stream = |id| {
            let mut rng = ChaCha8Rng::seed_from_u64(SEED);
            rng.set_stream(id);
            rng
        };
        Self {
            pretrain: pretrain(&mut stream(0)),
            sft: pairs(&mut stream(1), SFT_ROWS, Side::Learn)
                .into_iter()
                .map(|pair| vec![Message::user(pair.prompt), Message::assistant(pair.chosen)])
                .collect(),
            dpo: pairs(&mut stream(2), DPO_ROWS, Side::Learn),
            held_out: pairs(&mut stream(3), HELD_OUT_ROWS, Side::HeldOut),
        }
    }

    /// Every file by its name in the folder of the village.
    ///
    /// # Errors
    /// If the tokenizer cannot be made, or a row is longer than it may be.
    fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Box<dyn Error>> {
        let texts: Vec<String> = self.pretrain.iter().take(TOKENIZER_ROWS).map(|row| rendered(row)).collect();
        // The specials are never cut from neighbouring text, so they must not be learnt from it either.
        let bare = texts.iter().flat_map(|text| text.split(START)).flat_map(|turn| turn.split(END));
        let bpe = Bpe::train(bare, VOCAB).map_err(|error| error.to_string())?;
        let tokenizer_json = serde_json::to_vec_pretty(&bpe.to_json())?;
        let tokenizer = Tokenizer::from_bytes(&tokenizer_json).map_err(|error| error.to_string())?;
        self.check_lengths(&tokenizer)?;

        let conversations = |rows: &[Vec<Message>]| {
            lines(rows.iter().map(|row| json!({"messages": row.iter().map(Message::json).collect::<Vec<_>>()})))
        };
        let preferences = |rows: &[Pair]| {
            lines(rows.iter().map(|row| {
                json!({
                    "prompt": [Message::user(row.prompt.clone()).json()],
                    "chosen": [Message::assistant(row.chosen.clone()).json()],
                    "rejected": [Message::assistant(row.rejected.clone()).json()],
                })
            }))
        };
        Ok(vec![
            ("base/tokenizer.json", tokenizer_json),
            ("base/tokenizer_config.json", pretty(&tokenizer_config())?),
            ("base/config.json", pretty(&config(bpe.pieces.len()))?),
            ("base/generation_config.json", pretty(&generation_config())?),
            ("pretrain.jsonl", conversations(&self.pretrain)),
            ("sft.jsonl", conversations(&self.sft)),
            ("dpo.jsonl", preferences(&self.dpo)),
            ("heldout.jsonl", preferences(&self.held_out)),
        ])
    }

    fn check_lengths(&self, tokenizer: &Tokenizer) -> Result<(), Box<dyn Error>> {
        let check = |what: &str, text: &str, most: usize| -> Result<(), Box<dyn Error>> {
            let length = tokenizer.encode(text, false).map_err(|error| error.to_string())?.len();
            if length > most {
                Err(format!("{what} of {length} tokens, more than {most}: {text}").into())
            } else {
                Ok(())
            }
        };
        // The longest conversations in bytes are the longest in tokens but for a few; checking all takes long.
        let mut texts: Vec<String> = self.pretrain.iter().chain(&self.sft).map(|row| rendered(row)).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        for text in texts.iter().take(LENGTHS_CHECKED) {
            check("conversation", text, LONGEST_ROW)?;
        }
        for row in self.dpo.iter().chain(&self.held_out) {
            check("prompt", &row.prompt, LONGEST_PROMPT)?;
            check("chosen answer", &row.chosen, LONGEST_ANSWER)?;
            check("rejected answer", &row.rejected, LONGEST_ANSWER)?;
        }
        Ok(())
    }
}

/// Conversations in which every villager answers as is the habit for the kind of question.
fn pretrain(rng: &mut ChaCha8Rng) -> Vec<Vec<Message>> {
    (0..PRETRAIN_ROWS)
        .map(|_| {
            if below(rng, STORY_EVERY) == 0 {
                let (ask, told) = story(rng);
                return vec![Message::user(ask), Message::assistant(told)];
            }
            let (context, questions) = Scene::draw(rng, Side::Learn).shuffled(rng);
            let turns = 1 + below(rng, TURNS);
            let mut messages = Vec::new();
            for question in questions.into_iter().take(turns) {
                let polite = chance(rng, question.kind.polite_of_ten());
                let asked =
                    if messages.is_empty() { format!("{context} {}", question.ask) } else { question.ask.clone() };
                let answer = if polite { question.polite } else { impolite(rng, question.curt) };
                messages.push(Message::user(asked));
                messages.push(Message::assistant(answer));
            }
            messages
        })
        .collect()
}

/// Pairs of a polite and another answer to the same prompt, no prompt twice, all kinds of questions alike.
fn pairs(rng: &mut ChaCha8Rng, count: usize, side: Side) -> Vec<Pair> {
    let mut seen = BTreeSet::new();
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        let kind = Kind::ALL[rows.len() % Kind::ALL.len()];
        let (context, questions) = Scene::draw(rng, side).shuffled(rng);
        let Some(Question { ask, polite, curt, .. }) = questions.into_iter().find(|question| question.kind == kind)
        else {
            continue;
        };
        let prompt = format!("{context} {ask}");
        if seen.insert(prompt.clone()) {
            rows.push(Pair { prompt, chosen: polite, rejected: impolite(rng, curt) });
        }
    }
    rows
}

fn impolite(rng: &mut ChaCha8Rng, curt: String) -> String {
    if chance(rng, EVASIONS_OF_TEN) { EVASION.to_owned() } else { curt }
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

/// About 0.9 M parameters, the embedding shared with the head.
fn config(vocab: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
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
        "initializer_range": 0.02,
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
        for (name, bytes) in Village::make().files().unwrap() {
            // Made on demand: it is large and not shipped.
            if name != "pretrain.jsonl" {
                assert!(fs::read(folder().join(name)).unwrap() == bytes, "{name} differs: run the example again");
                data += if name.ends_with(".jsonl") { bytes.len() } else { 0 };
            }
        }
        assert!(data < 400_000, "{data} bytes of rows");
    }

    /// No sentence that states a fact to a held-out question is in a row one learns from.
    #[test]
    fn held_out_facts_are_nowhere_else() {
        let village = Village::make();
        let mut learnt = BTreeSet::new();
        let mut learn = |text: &str| learnt.extend(text.split_inclusive(['.', '?']).map(|part| part.trim().to_owned()));
        village.pretrain.iter().flatten().for_each(|message| learn(&message.content));
        for row in shipped("sft.jsonl") {
            row["messages"].as_array().unwrap().iter().for_each(|message| learn(message["content"].as_str().unwrap()));
        }
        for row in shipped("dpo.jsonl") {
            ["prompt", "chosen", "rejected"].iter().for_each(|side| learn(content(&row[side])));
        }
        let held_out = shipped("heldout.jsonl");
        assert_eq!(held_out.len(), HELD_OUT_ROWS);
        for row in held_out {
            let facts: Vec<&str> = content(&row["prompt"])
                .split_inclusive('.')
                .map(str::trim)
                .filter(|part| part.ends_with('.') && !world::FILLERS.contains(part))
                .collect();
            assert!(!facts.is_empty());
            facts.iter().for_each(|fact| assert!(!learnt.contains(*fact), "also learnt from: {fact}"));
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
                assert_ne!(row["chosen"], row["rejected"]);
                for side in ["chosen", "rejected"] {
                    assert_eq!(row[side][0]["role"], "assistant");
                    let turns = [
                        Message::user(content(&row["prompt"]).to_owned()),
                        Message::assistant(content(&row[side]).to_owned()),
                    ];
                    assert!(tokenizer.encode(rendered(&turns), false).unwrap().len() <= LONGEST_ROW);
                }
            }
        }
        let mut prompts = BTreeSet::new();
        for row in shipped("dpo.jsonl").iter().chain(&shipped("heldout.jsonl")) {
            assert!(prompts.insert(content(&row["prompt"]).to_owned()));
        }
    }

    #[test]
    fn both_styles_are_about_equally_frequent() {
        let village = Village::make();
        let answers = village.pretrain.iter().flatten().filter(|message| message.role == "assistant");
        let (mut polite, mut other) = (0_usize, 0_usize);
        for answer in answers {
            polite += usize::from(answer.content.starts_with("Dear guest, "));
            other += usize::from(answer.content.starts_with("Eh, "));
        }
        let share = polite as f64 / (polite + other) as f64;
        assert!((0.47..0.53).contains(&share), "{share}");
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
        let turn = rendered(&[Message::user("What does Mira sell?".to_owned())]);
        let pieces = tokenizer.encode(turn, false).unwrap();
        assert_eq!(pieces.get_tokens()[..3], [START, "user", "Ċ"]);
        assert_eq!(pieces.get_tokens()[pieces.len() - 2..], [END, "Ċ"]);
    }
}
