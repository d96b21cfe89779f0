//! Foreign text on a terminal: names, messages and texts out of files that somebody else made. What would steer the
//! terminal, turn the direction of writing or stand there unseen is written out, and what is very long is cut.

use std::borrow::Cow;

/// Characters of a line that are shown; a longer one is cut in its middle.
const LINE: usize = 2_000;
/// Of these, characters behind the cut: messages end with the value at fault.
const TAIL: usize = 300;

/// Whether a character is shown as its number: control characters (C0, DEL, C1), those that format text without being
/// seen (Unicode's categories Cf, Zl and Zp but for the signs among them that have a shape), and fillers.
fn written_out(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' // soft hyphen
            | '\u{34f}' // joins graphemes
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // direction
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}' | '\u{17b5}' // fillers
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{2028}' | '\u{2029}' // ends of lines and paragraphs
            | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}' // tags
        )
}

/// The text with what is not to reach a terminal as `\u{1b}`, but for the characters in `kept`.
fn escaped<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let out = |c: char| written_out(c) && !kept.contains(&c);
    if !text.contains(out) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' if out(c) => safe.extend(c.escape_default()),
            c if out(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Text of several lines, in full: ends of lines and tabs are what they are.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, &['\n', '\t'])
}

/// One line, cut in the middle where it is long; tabs part its columns.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    // So that a file of a gigabyte in one string costs no second one.
    let count = text.chars().count();
    if count <= LINE {
        return escaped(text, &['\t']);
    }
    let at = |number: usize| text.char_indices().nth(number).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (&text[..at(LINE - TAIL)], &text[at(count - TAIL)..]);
    let left_out = count - LINE;
    Cow::Owned(format!(
        "{} ... ({left_out} characters left out) ... {}",
        escaped(head, &['\t']),
        escaped(tail, &['\t'])
    ))
}

/// The same JSON: what stands for itself in a string of JSON and is not to reach a terminal, as `\u009b`.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(written_out) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if written_out(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: escape, carriage return, DEL, CSI of C1, override, isolate, zero width, mark of order, tag.
    const STEERING: [char; 11] = [
        '\u{1b}',
        '\r',
        '\u{7}',
        '\u{7f}',
        '\u{9b}',
        '\u{202e}',
        '\u{2066}',
        '\u{200b}',
        '\u{200d}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn nothing_that_steers_or_hides_is_left_anywhere() {
        for c in STEERING {
            let text = format!("a{c}b");
            let shown = if c == '\r' { "a\\rb".to_owned() } else { format!("a\\u{{{:x}}}b", u32::from(c)) };
            assert_eq!(line(&text), shown);
            assert_eq!(lines(&text), shown);
            let value = serde_json::Value::String(text);
            let safe = json(&value.to_string()).into_owned();
            assert!(safe.is_ascii(), "{safe:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }

    #[test]
    fn text_keeps_its_lines_and_a_line_stays_one() {
        assert_eq!(lines("a\n\tb\u{85}c"), "a\n\tb\\u{85}c");
        assert_eq!(line("a\nvalid\tb"), "a\\nvalid\tb");
        for plain in ["", "Zoë läuft, 水, 👍🏽, ẞ e\u{301}, ا", "{\"a\": [1, \"\\u001b\"]}"] {
            assert!(matches!(line(plain), Cow::Borrowed(text) if text == plain));
            assert!(matches!(lines(plain), Cow::Borrowed(text) if text == plain));
            assert!(matches!(json(plain), Cow::Borrowed(text) if text == plain));
        }
    }

    #[test]
    fn a_long_line_keeps_its_beginning_and_its_end() {
        let whole = "é".repeat(LINE);
        assert_eq!(line(&whole), whole);
        let long = format!("path: {}\u{1b}: value", "é".repeat(1_000_000));
        let cut = line(&long);
        assert!(cut.starts_with("path: éé") && cut.ends_with("é\\u{1b}: value"), "{cut}");
        assert!(cut.contains(" ... (998014 characters left out) ... "), "{cut}");
        assert!(cut.chars().count() < LINE + 60);
        assert_eq!(lines(&whole.repeat(3)).chars().count(), 3 * LINE);
    }
}
