//! What is asked of a model in a proof, from what is typed or from rows: cases without their answers.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ftk_bases::{BaseModel, Message};
use ftk_proofs::{Case, Completion, Input, LogProb, Output, Preference};
use ftk_text::RowPlace;
use ftk_text::encode::{Encoder, Pair, ScoredSequence};
use ftk_text::rows::{self, Options, PairRow, PlainText, PromptRow, SftRow};

use super::{Advice, Question};

/// What a proof is to show.
#[derive(Clone, Debug, PartialEq)]
pub enum AskedOutput {
    /// How the model continues a prompt.
    Completion {
        /// Most tokens.
        max_tokens: usize,
    },
    /// How likely a continuation is.
    LogProb,
    /// How likely two continuations are.
    Preference,
    /// What asks the same of every input: an output without its answer.
    Same(Output),
}

/// Where the inputs come from.
#[derive(Clone, Debug)]
pub enum InputSource {
    /// One prompt, with as many continuations as the task is about.
    Typed {
        /// The prompt.
        prompt: String,
        /// Taken as it is, not as a user's message.
        raw: bool,
        /// Continuation, or the chosen and the rejected one.
        continuations: Vec<String>,
    },
    /// A file of rows.
    Rows(PathBuf),
    /// Nodes of a graph.
    Nodes {
        /// The graph, or where it is imported from.
        graph: PathBuf,
        /// Names of nodes.
        names: Vec<String>,
        /// A table whose first column names more.
        file: Option<PathBuf>,
        /// Of edges and nodes, those from before this time alone.
        before: Option<f64>,
    },
    /// Pairs of users, by what is known of their ratings.
    Pairs {
        /// The ratings, or where they are imported from.
        graph: PathBuf,
        /// Names of who rates and who is rated.
        names: Vec<[String; 2]>,
        /// A table whose first two columns name more.
        file: Option<PathBuf>,
        /// Of ratings, those from before this time alone.
        before: Option<f64>,
    },
}

/// Ids long enough that no row is cut: a proof is about whole rows.
const LIMIT: usize = usize::MAX;

/// The cases, with nothing where answers will stand.
///
/// # Errors
/// Rows or texts that do not ask what the task is about.
pub fn cases(claim: &AskedOutput, inputs: &InputSource, source: &BaseModel) -> Result<Vec<Case>> {
    let stop_ids: Vec<u32> = source.special().stop.iter().copied().collect();
    let context = source.network().context();
    let about = |input: Vec<u32>| -> Result<Case> {
        let output = match claim {
            AskedOutput::Completion { max_tokens } => {
                let room = context.saturating_sub(input.len());
                if room == 0 {
                    let message = format!("the prompt fills the base's {context} positions");
                    return Err(Advice::new(message, "give a shorter prompt").into());
                }
                let max_tokens = u32::try_from(room.min(*max_tokens)).unwrap_or(u32::MAX);
                Completion { ids: Vec::new(), max_tokens, stop_ids: stop_ids.clone() }.into()
            }
            AskedOutput::Same(output) => output.clone(),
            AskedOutput::LogProb | AskedOutput::Preference => unreachable!("rows say what these are about"),
        };
        Ok(Case { input: Input::Tokens(input), output })
    };
    let options = Options { template: source.chat_template().ok().cloned(), ..Options::default() };
    match (claim, inputs) {
        (_, InputSource::Nodes { .. } | InputSource::Pairs { .. }) => {
            Err(Advice::new("the base is one of tokens", "give a base of graphs, or --prompt or --rows").into())
        }
        (AskedOutput::LogProb, InputSource::Rows(path)) => {
            let encoder = Encoder::new(source, path, ftk_recipes::Scored::default(), LIMIT);
            let rows = rows::read::<SftRow>(path, &options)?.rows;
            rows.into_iter().map(|(place, row)| continued(&encoder, place, encoder.sft(place, row)?)).collect()
        }
        (AskedOutput::Preference, InputSource::Rows(path)) => {
            let encoder = Encoder::new(source, path, ftk_recipes::Scored::default(), LIMIT);
            let rows = rows::read::<PairRow>(path, &options)?.rows;
            rows.into_iter().map(|(place, row)| compared(&encoder, place, encoder.pair(place, row)?)).collect()
        }
        (_, InputSource::Rows(path)) => {
            let encoder = Encoder::new(source, path, ftk_recipes::Scored::default(), LIMIT);
            let rows = rows::read::<PromptRow>(path, &options)?.rows;
            rows.into_iter().map(|(place, row)| about(encoder.asked(place, &row)?)).collect()
        }
        (AskedOutput::LogProb, InputSource::Typed { prompt, raw, continuations }) => {
            let [continuation] = continuations.as_slice() else { return Err(wants("--continuation")) };
            let (path, place) = (Path::new("prompt"), RowPlace::Row(1));
            let encoder = Encoder::new(source, path, ftk_recipes::Scored::default(), LIMIT);
            let speech = Speech::new(source, *raw);
            let row = SftRow::Completion(speech.text("user", prompt), speech.text("assistant", continuation));
            Ok(vec![continued(&encoder, place, encoder.sft(place, row)?)?])
        }
        (AskedOutput::Preference, InputSource::Typed { prompt, raw, continuations }) => {
            let [chosen, rejected] = continuations.as_slice() else { return Err(wants("--chosen and --rejected")) };
            let (path, place) = (Path::new("prompt"), RowPlace::Row(1));
            let encoder = Encoder::new(source, path, ftk_recipes::Scored::default(), LIMIT);
            let speech = Speech::new(source, *raw);
            let [chosen, rejected] = [chosen, rejected].map(|text| speech.text("assistant", text));
            let row = PairRow::Text(speech.text("user", prompt), chosen, rejected);
            Ok(vec![compared(&encoder, place, encoder.pair(place, row)?)?])
        }
        (_, InputSource::Typed { continuations, .. }) if !continuations.is_empty() => {
            Err(Advice::new("this task is about no continuation", "leave it away, or choose another --task").into())
        }
        (_, InputSource::Typed { prompt, raw, .. }) => {
            let question = Question { prompt: prompt.clone(), raw: *raw };
            Ok(vec![about(question.ids(source)?)?])
        }
    }
}

fn wants(what: &str) -> anyhow::Error {
    Advice::new(format!("this task needs {what}"), "give it beside --prompt, or give --rows").into()
}

/// How typed text is meant: as turns of a conversation, or as it is.
struct Speech {
    chat: bool,
}

impl Speech {
    fn new(source: &BaseModel, raw: bool) -> Self {
        Self { chat: !raw && source.chat_template().is_ok() }
    }

    fn text(&self, role: &str, text: &str) -> PlainText {
        match self.chat {
            true => PlainText::Chat(vec![Message::new(role, text)].into()),
            false => PlainText::Plain(text.to_owned()),
        }
    }
}

/// A row whose scored ids are its end: that end, behind what comes before it.
fn continued(encoder: &Encoder<'_>, place: RowPlace, sequence: ScoredSequence) -> Result<Case> {
    whole(encoder, place)?;
    let first = sequence.scored.iter().position(|scored| *scored);
    let Some(first) = first.filter(|first| sequence.scored[*first..].iter().all(|scored| *scored)) else {
        let message = format!("{}:{place}: what is scored is not the end of the row", encoder.path().display());
        return Err(Advice::new(message, "give prompt and completion, or a conversation of one answer").into());
    };
    let (input, ids) = sequence.ids.split_at(first);
    let output = LogProb { ids: ids.to_vec(), log_prob: 0 }.into();
    Ok(Case { input: Input::Tokens(input.to_vec()), output })
}

/// Refuses a row whose prompt is not asked as it stands: the proof would be about another.
fn whole(encoder: &Encoder<'_>, place: RowPlace) -> Result<()> {
    if encoder.parted() == 0 {
        return Ok(());
    }
    let message = format!("{}:{place}: the prompt's tokens depend on what follows it", encoder.path().display());
    Err(Advice::new(message, "let the prompt end, or the answers begin, with a space or new line").into())
}

fn compared(encoder: &Encoder<'_>, place: RowPlace, Pair { prompt, chosen, rejected }: Pair) -> Result<Case> {
    whole(encoder, place)?;
    let ((input, chosen), (_, rejected)) = (chosen.ids.split_at(prompt), rejected.ids.split_at(prompt));
    let output = Preference::between(chosen.to_vec(), rejected.to_vec()).into();
    Ok(Case { input: Input::Tokens(input.to_vec()), output })
}
