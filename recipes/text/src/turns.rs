//! Which tokens of a conversation the assistant says.
//!
//! A template may mark them (`{% generation %}`). Where it does not, the conversation is rendered up to each of the
//! assistant's turns and again up to its end: what the second has more than the first is the turn. That holds for
//! templates that only ever append; the others are refused.

use std::ops::Range;

use super::error::TextError;
use super::rows::Chat;
use ftk_bases::BaseModel;

/// Token ids of a conversation, and the assistant's turns among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    /// The text.
    pub text: String,
    /// The ids.
    pub ids: Vec<u32>,
    /// Ranges of ids, in order; one of no ids where a turn has none.
    pub spoken: Vec<Range<usize>>,
    /// Whether the template marked them, so that they end where it says.
    pub marked: bool,
}

/// Tokenises a conversation and finds the assistant's turns: all that begin within its first `limit`
/// tokens, and at least one.
///
/// # Errors
/// The tokenizer's and the template's; [`TextError::Turns`].
pub fn turns(source: &BaseModel, chat: &Chat, limit: usize) -> Result<Turns, TextError> {
    let (template, tokenizer) = (source.chat_template()?, source.tokenizer()?);
    let marked = template.render_marked(&chat.messages, &chat.tools)?;
    let text = match &marked {
        Some(marked) => marked.text.clone(),
        None => template.render(&chat.messages, &chat.tools, false)?,
    };
    let (ids, places) = tokenizer.encode_with_places(&text)?;
    let (bytes, marked) = match marked {
        Some(marked) => (marked.spans, true),
        None => {
            // Beyond it nothing is kept: no turn there needs a rendering.
            let end = limit.checked_sub(1).and_then(|last| places.get(last)).map_or(text.len(), |place| place.end);
            (appended(source, chat, &text, end)?, false)
        }
    };
    let spoken = bytes.into_iter().map(|span| tokens(&places, &span)).collect();
    Ok(Turns { text, ids, spoken, marked })
}

/// Bytes of the assistant's turns that begin before `end`.
fn appended(source: &BaseModel, chat: &Chat, text: &str, end: usize) -> Result<Vec<Range<usize>>, TextError> {
    let (template, Chat { messages, tools }) = (source.chat_template()?, chat);
    let mut spans = Vec::new();
    for turn in (0..messages.len()).filter(|&turn| messages[turn].role() == "assistant") {
        let before = template.render(&messages[..turn], tools, true)?;
        let after = template.render(&messages[..=turn], tools, false)?;
        if !after.starts_with(&before) || !text.starts_with(&after) {
            return Err(TextError::Turns);
        }
        spans.push(before.len()..after.len());
        if before.len() >= end {
            break;
        }
    }
    Ok(spans)
}

/// The tokens that stand for some of these bytes.
fn tokens(places: &[Range<usize>], bytes: &Range<usize>) -> Range<usize> {
    let within = |place: &Range<usize>| match place.is_empty() {
        // Spaces, which stood before its end.
        true => bytes.start < place.end && place.end <= bytes.end,
        false => place.start < bytes.end && bytes.start < place.end,
    };
    // Places ascend, so that the first and the last can be searched for.
    let first = places.partition_point(|place| place.end <= bytes.start);
    let count = places[first..].iter().take_while(|place| within(place)).count();
    first..first + count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_a_span_that_it_shares_a_byte_with() {
        // "ab" "cd" " " "e" and two tokens of one character.
        let places = [0..2, 2..4, 5..5, 5..6, 6..8, 6..8, 8..9];
        assert_eq!(tokens(&places, &(0..2)), 0..1);
        assert_eq!(tokens(&places, &(1..5)), 0..3);
        assert_eq!(tokens(&places, &(3..4)), 1..2);
        assert_eq!(tokens(&places, &(5..6)), 3..4);
        assert_eq!(tokens(&places, &(6..8)), 4..6);
        assert_eq!(tokens(&places, &(4..9)), 2..7);
        assert!(tokens(&places, &(9..9)).is_empty());
    }
}
