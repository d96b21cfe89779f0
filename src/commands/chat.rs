//! `ftk chat`: a conversation on standard input and output, a line a turn, with an adapter, without it, or with both.

use std::io::{self, BufRead, IsTerminal, Read};
use std::str::FromStr;

use anyhow::{Context, Result};
use ftk_bases::Message;
use ftk_text::encode::Encoder;
use ftk_text::generate::{Answer, AnswerEnding, AnswerOptions, PassedSequence, Sampling};
use ftk_text::rows::PlainText;
use serde_json::json;

use super::generate::{AnsweringModel, ReadModel};
use super::{Advice, Outcome};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// The model to talk to.
    pub model: AnsweringModel,
    /// What the system says before the first turn.
    pub system: Option<String>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// How tokens are drawn; the most likely ones if absent.
    pub sampling: Option<Sampling>,
}

/// Bytes of the longest line that is read.
const LINE: u64 = 1 << 20;

/// What is said of the commands.
const COMMANDS: &str = "/reset begins a new conversation, /adapter on|off|both chooses who answers, /quit or the end of \
                        input ends";

/// What was typed.
#[derive(Debug, PartialEq)]
enum ChatLine {
    Say(String),
    Nothing,
    Reset,
    Adapter(Answering),
    Help,
    Quit,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answering {
    Adapted,
    Base,
    /// The base, then the adapter, whose answer the conversation goes on from.
    Both,
}

impl FromStr for ChatLine {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let mut words = line.split_whitespace();
        Ok(match (words.next(), words.next(), words.next()) {
            (None, ..) => Self::Nothing,
            (Some("/reset"), None, _) => Self::Reset,
            (Some("/adapter"), Some("on"), None) => Self::Adapter(Answering::Adapted),
            (Some("/adapter"), Some("off"), None) => Self::Adapter(Answering::Base),
            (Some("/adapter"), Some("both"), None) => Self::Adapter(Answering::Both),
            (Some("/help"), None, _) => Self::Help,
            (Some("/quit"), None, _) => Self::Quit,
            (Some(word), ..) if word.starts_with('/') => return Err(format!("no such command: {line}; {COMMANDS}")),
            _ => Self::Say(line.to_owned()),
        })
    }
}

impl Answering {
    /// Whether each that answers has the adapter.
    fn adapted(self) -> &'static [bool] {
        match self {
            Self::Adapted => &[true],
            Self::Base => &[false],
            Self::Both => &[false, true],
        }
    }
}

/// What was said, and what was computed of it by the base alone and with the adapter.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    passed: [PassedSequence; 2],
}

/// Talks until the input ends.
///
/// # Errors
/// A model or adapter that cannot be read; a base without a chat template; what its template refuses.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let model = settings.model.read(printer)?;
    if model.source.chat_template().is_err() {
        let message = format!("{}: has no chat template, so it knows no turns", settings.model.base.display());
        let hint = "add a chat_template.jinja to its folder, or continue plain text with `ftk generate --raw`";
        return Err(Advice::new(message, hint).into());
    }
    let begun = || Conversation {
        messages: settings.system.iter().map(|system| Message::new("system", system)).collect(),
        ..Conversation::default()
    };
    let mut answering = if model.adapter.is_some() { Answering::Adapted } else { Answering::Base };
    let (mut conversation, mut turn, mut input) = (begun(), 0, io::stdin().lock());
    if io::stdin().is_terminal() {
        printer.note(COMMANDS);
    }
    while printer.lost().is_none()
        && let Some(line) = next(&mut input, printer)?
    {
        match line.parse() {
            Err(wrong) => printer.note(&wrong),
            Ok(ChatLine::Nothing) => {}
            Ok(ChatLine::Help) => printer.note(COMMANDS),
            Ok(ChatLine::Quit) => break,
            Ok(ChatLine::Reset) => conversation = begun(),
            Ok(ChatLine::Adapter(Answering::Adapted | Answering::Both)) if model.adapter.is_none() => {
                printer.note("there is no adapter: name one with --adapter");
            }
            Ok(ChatLine::Adapter(chosen)) => answering = chosen,
            Ok(ChatLine::Say(text)) => {
                conversation.messages.push(Message::new("user", text));
                let answer = conversation.answers(&model, answering, turn, settings, printer)?;
                turn += 1;
                match answer {
                    Some(answer) => conversation.messages.push(Message::new("assistant", answer)),
                    None => drop(conversation.messages.pop()),
                }
            }
        }
    }
    Ok(Outcome::Done)
}

/// The next line, without its end; `None` where there is none.
fn next(input: &mut impl BufRead, printer: &Printer) -> Result<Option<String>> {
    if io::stdin().is_terminal() {
        printer.part("> ");
    }
    let mut line = Vec::new();
    input.take(LINE).read_until(b'\n', &mut line).context("cannot read standard input")?;
    if line.len() as u64 == LINE {
        return Err(Advice::new("a line is longer than 1 MiB", "give a turn on a line").into());
    }
    let text = String::from_utf8(line).map_err(|_| Advice::new("standard input is not UTF-8", "give text in UTF-8"))?;
    Ok((!text.is_empty()).then_some(text))
}

impl Conversation {
    /// What answers the last turn, as text: that which the conversation goes on from. `None` where there is no room.
    fn answers(
        &mut self,
        model: &ReadModel,
        answering: Answering,
        turn: usize,
        settings: &Settings,
        printer: &Printer,
    ) -> Result<Option<String>> {
        let prompt = Encoder::prompt(&model.source, &PlainText::Chat(self.messages.clone().into()))?;
        let context = model.source.network().context();
        if prompt.len() >= context {
            let used = prompt.len();
            printer
                .note(&format!("{used} tokens fill the base's {context} positions: /reset begins a new conversation"));
            return Ok(None);
        }
        let options = AnswerOptions {
            limit: settings.max_tokens,
            stop: &model.source.special().stop,
            sampling: settings.sampling,
        };
        let tokenizer = model.source.tokenizer()?;
        let mut said = None;
        for &adapted in answering.adapted() {
            if answering == Answering::Both {
                printer.part(if adapted { "adapter: " } else { "base: " });
            }
            let mut stream = tokenizer.stream();
            let show = |token| {
                if let Ok(Some(text)) = stream.push(token) {
                    printer.part(&text);
                }
                printer.lost().is_none()
            };
            let passed = &mut self.passed[usize::from(adapted)];
            let answer: Answer = model.generator(adapted).answer(passed, &prompt, (turn, 0), &options, show)?;
            printer.line("");
            if let Some(cut) = cut(answer.ending) {
                printer.note(cut);
            }
            let text = tokenizer.decode(&answer.ids, true)?;
            printer.object(&json!({
                "turn": turn + 1,
                "adapted": adapted,
                "text": text,
                "completion_ids": answer.ids,
                "ended": answer.ending.name(),
            }));
            said = Some(text);
        }
        Ok(said)
    }
}

/// What to say of an answer that did not come to its end.
fn cut(ending: AnswerEnding) -> Option<&'static str> {
    match ending {
        AnswerEnding::Stop | AnswerEnding::Halted => None,
        AnswerEnding::Length => Some("cut at --max-tokens"),
        AnswerEnding::Context => Some("cut at the last position that the base has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_begin_with_a_slash_and_unknown_ones_are_not_said() {
        let read = |line: &str| line.parse::<ChatLine>();
        assert_eq!(read(" Hello, you \n"), Ok(ChatLine::Say("Hello, you".to_owned())));
        assert_eq!(read("\n"), Ok(ChatLine::Nothing));
        assert_eq!(read("/reset"), Ok(ChatLine::Reset));
        assert_eq!(read("/adapter off"), Ok(ChatLine::Adapter(Answering::Base)));
        assert_eq!(read("/adapter both\n"), Ok(ChatLine::Adapter(Answering::Both)));
        for line in ["/adapter", "/adapter maybe", "/reset now", "/resett", "/"] {
            let expected = format!("no such command: {line}; /reset begins");
            assert!(read(line).unwrap_err().starts_with(&expected), "{line}");
        }
    }
}
