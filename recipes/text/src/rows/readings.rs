//! In which ways a row of each kind can be read from its columns.

use ftk_bases::Message;
use serde_json::Value;

use super::super::error::{PAIRS, TextError, WANTED};
use super::columns::{Columns, Reading, Row};
use super::kinds::{Chat, PairRow, PlainText, PromptRow, SftRow, UnpairedRow};

/// Columns of answers, which a question is read without.
const ANSWERS: [&str; 21] = [
    "completion",
    "output",
    "chosen",
    "rejected",
    "labels",
    "label",
    "kto_tag",
    "response",
    "answer",
    "chosen_ids",
    "rejected_ids",
    "completion_ids",
    "completion_mask",
    "assistant_masks",
    "assistant_mask",
    "loss_mask",
    "response_mask",
    "weights",
    "weight",
    "loss_weight",
    "train",
];

/// Whether a completion is wanted.
const LABEL: &str = "label";

/// The same as LLaMA-Factory calls it.
const TAG: &str = "kto_tag";

impl Row for SftRow {
    const PASSED_OVER: &[&str] = &["label", "chosen", "rejected"];

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const READINGS: [Reading; 6] = [
            &["input_ids"],
            &["messages"],
            &["conversations"],
            &["text"],
            &["prompt", "completion"],
            &["instruction", "output"],
        ];
        if ["chosen", "rejected"].iter().all(|name| columns.has(name)) && !columns.has("completion") {
            let one_of = ["text", "messages", "conversations", "output", "input_ids"];
            if !one_of.iter().any(|name| columns.has(name)) {
                return Err(columns.error("chosen", format!("needs a completion, and {PAIRS}")));
            }
        }
        let reading = columns.reading(
            &READINGS,
            "needs text, messages, conversations, prompt and completion, instruction and output, or input_ids",
        )?;
        for name in [LABEL, TAG] {
            if matches!(columns.row.get(name), Some(Value::Bool(_))) {
                let message = "says whether the answer is wanted, but sft learns every answer";
                return Err(columns.choice(name, message, reading));
            }
        }
        Ok(match reading[0] {
            "input_ids" => {
                let (ids, labels) = columns.labelled()?;
                Self::Ids(ids, labels)
            }
            key @ ("messages" | "conversations") => Self::Whole(PlainText::Chat(columns.chat(key)?)),
            "text" => Self::Whole(PlainText::Plain(columns.string("text")?)),
            "prompt" => {
                let (prompt, completion) = (columns.prompt()?, columns.text("completion")?);
                alike(columns, &prompt, &completion)?;
                once(columns, &prompt, &[("completion", &completion)])?;
                Self::Completion(prompt, completion)
            }
            _ => {
                let answer = Message::new("assistant", columns.string("output")?);
                Self::Completion(PlainText::Chat(columns.instruction()?), PlainText::Chat(vec![answer].into()))
            }
        })
    }
}

impl Row for PromptRow {
    const PASSED_OVER: &[&str] = &ANSWERS;

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const READINGS: [Reading; 7] = [
            &["prompt"],
            &["prompt_ids"],
            &["input_ids"],
            &["instruction"],
            &["text"],
            &["messages"],
            &["conversations"],
        ];
        let needs = "needs prompt, instruction, text, messages, conversations, prompt_ids or input_ids";
        let key = columns.reading(&READINGS, needs)?[0];
        match key {
            "prompt" => columns.prompt().map(Self::Text),
            "text" => columns.string(key).map(|text| Self::Text(PlainText::Plain(text))),
            "instruction" => columns.instruction().map(|chat| Self::Text(PlainText::Chat(chat))),
            "messages" | "conversations" => {
                let mut chat = columns.chat(key)?;
                while chat.messages.last().is_some_and(|last| last.role() == "assistant") {
                    chat.messages.pop();
                }
                if chat.messages.is_empty() {
                    Err(columns.error(key, "asks nothing"))
                } else {
                    Ok(Self::Text(PlainText::Chat(chat)))
                }
            }
            "input_ids" => {
                let (mut ids, labels) = columns.labelled()?;
                let answer = labels.and_then(|labels| labels.iter().position(|label| *label >= 0));
                // A row that is scored from its beginning does not say where its answer begins.
                ids.truncate(answer.filter(|&at| at > 0).unwrap_or(ids.len()));
                Ok(Self::Ids(ids))
            }
            _ => columns.ids(key).map(Self::Ids),
        }
    }
}

fn alike(columns: &Columns<'_>, prompt: &PlainText, other: &PlainText) -> Result<(), TextError> {
    match (prompt, other) {
        (PlainText::Plain(_), PlainText::Plain(_)) | (PlainText::Chat(_), PlainText::Chat(_)) => Ok(()),
        _ => Err(columns.error("prompt", "must be strings or lists of messages alike")),
    }
}

/// Refuses answers that all begin with the prompt: the model would read it twice. One text alone may repeat a question.
fn once(columns: &Columns<'_>, prompt: &PlainText, answers: &[(&str, &PlainText)]) -> Result<(), TextError> {
    let repeats = |answer: &PlainText| match (prompt, answer) {
        (PlainText::Plain(prompt), PlainText::Plain(answer)) => {
            answers.len() > 1
                && prompt.split_whitespace().nth(1).is_some()
                && answer.trim_start().starts_with(prompt.trim())
        }
        (PlainText::Chat(prompt), PlainText::Chat(answer)) => {
            let asked: Vec<&Message> = prompt.messages.iter().filter(|turn| turn.role() != "system").collect();
            let told = answer.messages.iter().filter(|turn| turn.role() != "system");
            !asked.is_empty() && told.take(asked.len()).eq(asked.iter().copied())
        }
        _ => false,
    };
    if !answers.iter().all(|(_, answer)| repeats(answer)) {
        return Ok(());
    }
    let names: Vec<&str> = answers.iter().map(|(name, _)| *name).collect();
    let message = format!("stands at the beginning of {}, too", names.join(" and of "));
    match *names {
        ["chosen", "rejected"] => Err(columns.choice("prompt", message, &names)),
        _ => Err(columns.error("prompt", message)),
    }
}

impl Row for PairRow {
    const PASSED_OVER: &[&str] = &[LABEL, TAG, "messages", "completion"];

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const PROMPTS: [&str; 3] = ["prompt", "conversations", "instruction"];
        if columns.has("prompt_ids") {
            columns.reading(&[&["prompt_ids"], &["chosen", "rejected"]], "")?;
            return Ok(Self::Ids([
                columns.ids("prompt_ids")?,
                columns.ids("chosen_ids")?,
                columns.ids("rejected_ids")?,
            ]));
        }
        let needs = "needs prompt, chosen and rejected, or prompt_ids, chosen_ids and rejected_ids";
        columns.reading(&[&["chosen", "rejected"]], needs)?;
        let found: Vec<&str> = PROMPTS.into_iter().filter(|key| columns.has(key)).collect();
        let answers = || Ok::<_, TextError>((columns.answer("chosen")?, columns.answer("rejected")?));
        let (prompt, chosen, rejected) = match *found {
            [] => {
                let (chosen, rejected) = (columns.text("chosen")?, columns.text("rejected")?);
                alike(columns, &chosen, &rejected)?;
                // What would be lost is named before what is missing.
                columns.rest(Self::PASSED_OVER)?;
                if let (PlainText::Plain(chosen), PlainText::Plain(rejected)) = (&chosen, &rejected) {
                    columns.unasked(chosen, rejected)?;
                }
                common(columns, chosen, rejected)?
            }
            ["prompt"] => {
                let prompt = columns.prompt()?;
                let (chosen, rejected) = (columns.text("chosen")?, columns.text("rejected")?);
                match (&prompt, &chosen, &rejected) {
                    // A string beside answers alone is the user's turn.
                    (PlainText::Plain(text), PlainText::Chat(a), PlainText::Chat(b))
                        if [a, b].iter().all(|chat| chat.messages.iter().all(|turn| turn.role() == "assistant")) =>
                    {
                        let asked = columns.dressed(vec![Message::new("user", text.as_str())])?;
                        (PlainText::Chat(asked), chosen, rejected)
                    }
                    // A string beside whole conversations repeats what these begin with.
                    (PlainText::Plain(text), PlainText::Chat(_), PlainText::Chat(_)) => {
                        let (prompt, chosen, rejected) = common(columns, chosen.clone(), rejected.clone())?;
                        match &prompt {
                            PlainText::Chat(chat) if chat.messages.iter().any(|turn| turn.content() == Some(text)) => {}
                            _ => {
                                return Err(columns.error("prompt", "is not among the messages of chosen and rejected"));
                            }
                        }
                        (prompt, chosen, rejected)
                    }
                    _ => {
                        alike(columns, &prompt, &chosen)?;
                        alike(columns, &prompt, &rejected)?;
                        once(columns, &prompt, &[("chosen", &chosen), ("rejected", &rejected)])?;
                        (prompt, chosen, rejected)
                    }
                }
            }
            ["conversations"] => {
                let (chosen, rejected) = answers()?;
                (
                    PlainText::Chat(columns.chat("conversations")?),
                    PlainText::Chat(chosen.into()),
                    PlainText::Chat(rejected.into()),
                )
            }
            ["instruction"] => {
                let (chosen, rejected) = answers()?;
                (
                    PlainText::Chat(columns.instruction()?),
                    PlainText::Chat(chosen.into()),
                    PlainText::Chat(rejected.into()),
                )
            }
            [first, second, ..] => {
                let message = format!("can be read in two ways, with the prompt in: {first}, {second}");
                return Err(columns.choice("", message, &[first, "chosen", "rejected"]));
            }
            [_] => unreachable!("every prompt column is named above"),
        };
        Ok(Self::Text(prompt, chosen, rejected))
    }
}

impl Row for UnpairedRow {
    const PASSED_OVER: &[&str] = &["messages"];

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const READINGS: [Reading; 3] =
            [&["prompt_ids", "completion_ids"], &["prompt", "completion"], &["instruction", "output"]];
        let needs = "needs prompt and completion, or prompt_ids and completion_ids, and label";
        let reading = columns.reading(&READINGS, needs)?;
        let name = if columns.has(TAG) && !columns.has(LABEL) { TAG } else { LABEL };
        let wanted = columns.get(name, WANTED)?;
        Ok(match reading[0] {
            "prompt_ids" => Self::Ids([columns.ids("prompt_ids")?, columns.ids("completion_ids")?], wanted),
            "prompt" => {
                let (prompt, completion) = (columns.prompt()?, columns.text("completion")?);
                alike(columns, &prompt, &completion)?;
                once(columns, &prompt, &[("completion", &completion)])?;
                Self::Text(prompt, completion, wanted)
            }
            _ => {
                let answer = columns.answer("output")?;
                Self::Text(PlainText::Chat(columns.instruction()?), PlainText::Chat(answer.into()), wanted)
            }
        })
    }
}

/// Parts the prompt from two wholes that begin with it, as TRL's `extract_prompt` does: the longest common prefix, of
/// messages or of characters, but for a space at its end; at least one message or character stays in each. Where two
/// texts have no more than one word in common, that is no prompt.
fn common(
    columns: &Columns<'_>,
    chosen: PlainText,
    rejected: PlainText,
) -> Result<(PlainText, PlainText, PlainText), TextError> {
    match (chosen, rejected) {
        (PlainText::Chat(Chat { messages: chosen, .. }), PlainText::Chat(Chat { messages: rejected, .. })) => {
            let equal = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            let length = equal.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
            if length == 0 {
                return Err(
                    columns.error("prompt", "is missing, and chosen and rejected do not begin with one message")
                );
            }
            let (prompt, chosen) = chosen.split_at(length);
            let chat = |messages: &[Message]| PlainText::Chat(messages.to_vec().into());
            Ok((PlainText::Chat(columns.dressed(prompt.to_vec())?), chat(chosen), chat(&rejected[length..])))
        }
        (PlainText::Plain(chosen), PlainText::Plain(rejected)) => {
            let differ = chosen.char_indices().zip(rejected.chars()).find(|((_, a), b)| a != b);
            let length = match differ {
                Some(((at, _), _)) if chosen[..at].ends_with(' ') => at - 1,
                Some(((at, _), _)) => at,
                None => {
                    let shorter = if chosen.len() < rejected.len() { &chosen } else { &rejected };
                    shorter.char_indices().next_back().map_or(0, |(last, _)| last)
                }
            };
            // Scripts that write words without spaces between begin behind the CJK radicals.
            let words = chosen[..length]
                .split_whitespace()
                .map(|word| word.chars().filter(|&c| c >= '\u{2E80}').count().max(1));
            if words.sum::<usize>() < 2 {
                let message =
                    "is missing, and chosen and rejected have no more than one word in common at their beginning";
                return Err(columns.error("prompt", message));
            }
            let text = |text: &str| PlainText::Plain(text.to_owned());
            Ok((text(&chosen[..length]), text(&chosen[length..]), text(&rejected[length..])))
        }
        _ => Err(columns.error("rejected", "must be a string or a list of messages, as chosen is")),
    }
}
