//! A template as the engine takes it. What jinja2 reads otherwise is written anew: line ends, escapes in strings, strings
//! that follow each other, the operators `~` and `%`, methods of maps that a key may hide, and transformers'
//! `{% generation %}`. Everything else, white space and lines included, stays.

use super::methods::METHOD;
use super::python::{CONCAT, ITEM, REMAINDER};

/// The filter that `{% generation %}` becomes: the engine has no tags of its own making, but blocks under filters.
pub(super) const GENERATED: &str = "ftk_generated";

/// Methods that a map has whatever its keys are.
const METHODS: [&str; 4] = ["items", "keys", "values", "get"];

/// Words between two expressions.
const SEPARATORS: [&str; 8] = ["if", "else", "or", "and", "not", "in", "recursive", "as"];

/// The template, and whether it marks what the assistant says.
pub(super) fn translate(source: &str) -> (String, bool) {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut result, mut found) = (String::with_capacity(source.len()), false);
    let (mut rest, mut raw) = (source.as_str(), false);
    while let Some(start) = rest.find('{') {
        let (text, tag) = rest.split_at(start);
        let length = match tag.as_bytes().get(1) {
            Some(b'%') => code(tag, "%}"),
            Some(b'{') if !raw => code(tag, "}}"),
            Some(b'#') if !raw => tag.find("#}").map_or(tag.len(), |end| end + 2),
            _ => 1,
        };
        let (tag, after) = tag.split_at(length);
        result.push_str(text);
        rest = after;
        let inside = |open: &str, close: &str| tag.strip_prefix(open).and_then(|tag| tag.strip_suffix(close));
        let (open, close, body) = match (inside("{%", "%}"), inside("{{", "}}")) {
            (Some(body), _) => ("{%", "%}", body),
            (None, Some(body)) if !raw => ("{{", "}}", body),
            _ => {
                result.push_str(tag);
                continue;
            }
        };
        let front = body.len() - body.strip_prefix(['-', '+']).unwrap_or(body).len();
        let back = body[front..].len() - body[front..].strip_suffix(['-', '+']).unwrap_or(&body[front..]).len();
        let (front, body, back) = (&body[..front], &body[front..body.len() - back], &body[body.len() - back..]);
        let body = match (open, body.trim()) {
            ("{%", "raw") => {
                raw = true;
                body.to_owned()
            }
            ("{%", "endraw") => {
                raw = false;
                body.to_owned()
            }
            _ if raw => body.to_owned(),
            ("{%", "generation") => {
                found = true;
                body.replace("generation", &format!("filter {GENERATED}"))
            }
            ("{%", "endgeneration") => body.replace("endgeneration", "endfilter"),
            _ => {
                let tokens = tokens(body);
                let statement = usize::from(open == "{%") * tokens.iter().take_while(|token| token.is_space()).count()
                    + usize::from(open == "{%");
                let (keyword, expression) = tokens.split_at(statement.min(tokens.len()));
                keyword.iter().map(|token| token.text.as_str()).collect::<String>() + &expressions(expression)
            }
        };
        // What a default says of other parameters is put in at the macro's beginning; the engine reads it outside.
        let (body, defaults) = if open == "{%" && !raw { late_defaults(&body) } else { (body, Vec::new()) };
        let last = if defaults.is_empty() { back } else { "" };
        result.extend([open, front, &body, last, close]);
        for (at, default) in defaults.iter().enumerate() {
            let back = if at + 1 == defaults.len() { back } else { "" };
            result.extend(["{% set ", default, back, "%}"]);
        }
        // Behind the tag that begins raw text a line break is text.
        if raw && body.trim() == "raw" && back.is_empty() && rest.starts_with('\n') {
            result.push('\n');
        }
    }
    result.push_str(rest);
    (result, found)
}

/// The head of a macro without the defaults that name one of its parameters, and these as assignments.
fn late_defaults(body: &str) -> (String, Vec<String>) {
    let tokens = tokens(body);
    let word = |at: usize| tokens.iter().filter(|token| !token.is_space()).nth(at).map(|token| token.text.as_str());
    let open = tokens.iter().position(|token| token.text == "(");
    let (Some("macro"), Some(open)) = (word(0), open) else { return (body.to_owned(), Vec::new()) };
    let end = open + 1 + closing(&tokens[open + 1..]);
    let (mut depth, mut parts) = (0usize, vec![Vec::new()]);
    for token in &tokens[open + 1..end] {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth -= 1,
            _ => {}
        }
        match (depth, token.text.as_str()) {
            (0, ",") => parts.push(Vec::new()),
            _ => parts.last_mut().expect("there is a first one").push(token),
        }
    }
    let text = |tokens: &[&Token]| tokens.iter().map(|token| token.text.as_str()).collect::<String>();
    let name =
        |part: &[&Token]| part.iter().find(|token| token.kind == TokenKind::Word).map(|token| token.text.clone());
    let names: Vec<String> = parts.iter().filter_map(|part| name(part)).collect();
    let mut late = Vec::new();
    let kept = parts.iter().map(|part| {
        let at = part.iter().position(|token| token.text == "=");
        let own = |default: &[&Token]| {
            default.iter().any(|token| token.kind == TokenKind::Word && names.contains(&token.text))
        };
        match (at.map(|at| part.split_at(at)), name(part)) {
            (Some((_, default)), Some(name)) if own(&default[1..]) => {
                late.push(format!("{name} = ({}) if {name} is undefined else {name} ", text(&default[1..]).trim()));
                name
            }
            _ => text(part).trim().to_owned(),
        }
    });
    let kept: Vec<String> = kept.collect();
    if late.is_empty() {
        return (body.to_owned(), late);
    }
    let around = |tokens: &[Token]| tokens.iter().map(|token| token.text.as_str()).collect::<String>();
    (around(&tokens[..=open]) + &kept.join(", ") + &around(&tokens[end..]), late)
}

/// Bytes of a tag that ends with `end` outside its strings.
fn code(tag: &str, end: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut depth = 0usize;
    for (at, byte) in tag.bytes().enumerate().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            // A map that ends there closes its own brace first.
            None if byte == b'}' && end == "}}" && depth > 0 => depth -= 1,
            None if tag.as_bytes()[at..].starts_with(end.as_bytes()) => return at + end.len(),
            None if byte == b'{' => depth += 1,
            None => {}
        }
    }
    tag.len()
}

/// A piece of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    Space,
    Text,
    Word,
    Operator,
    Open,
    Close,
}

#[derive(Debug)]
struct Token {
    kind: TokenKind,
    text: String,
}

impl Token {
    fn is_space(&self) -> bool {
        self.kind == TokenKind::Space
    }
}

fn tokens(body: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = body;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match first {
            _ if first.is_whitespace() => {
                (TokenKind::Space, rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()))
            }
            '"' | '\'' => (TokenKind::Text, quoted(rest, first)),
            _ if first.is_alphanumeric() || first == '_' => {
                (TokenKind::Word, rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()))
            }
            '(' | '[' | '{' => (TokenKind::Open, 1),
            ')' | ']' | '}' => (TokenKind::Close, 1),
            _ => {
                let two = ["**", "//", "==", "!=", "<=", ">="].iter().any(|two| rest.starts_with(two));
                (TokenKind::Operator, if two { 2 } else { first.len_utf8() })
            }
        };
        let (text, after) = rest.split_at(length);
        rest = after;
        if let Some(value) =
            text.strip_prefix(first).filter(|_| kind == TokenKind::Text).and_then(|text| text.strip_suffix(first))
        {
            let value = unescape(value);
            let before = tokens.iter().rposition(|token| !token.is_space());
            match before.filter(|&before| tokens[before].kind == TokenKind::Text) {
                // Two strings without anything between them are one.
                Some(before) => {
                    tokens.truncate(before + 1);
                    tokens[before].text.pop();
                    tokens[before].text.push_str(&escape(&value)[1..]);
                }
                None => tokens.push(Token { kind, text: escape(&value) }),
            }
        } else {
            tokens.push(Token { kind, text: text.to_owned() });
        }
    }
    tokens
}

/// Bytes of a string with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A string's value by Python's rules (The Python Language Reference, section 2.4.1.1): what is no escape stays.
fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        let code = &rest[at + 1..];
        let digits = |from: usize, most: usize, radix: u32| {
            let run = code[from..].chars().take(most).take_while(|c| c.is_digit(radix)).count();
            (run, u32::from_str_radix(&code[from..from + run], radix).ok().and_then(char::from_u32))
        };
        let simple = |c: char| (c.len_utf8(), Some(c));
        let (length, value) = match code.chars().next() {
            Some('\n') => (1, None),
            Some(c @ ('\\' | '\'' | '"')) => simple(c),
            Some('a') => (1, Some('\u{7}')),
            Some('b') => (1, Some('\u{8}')),
            Some('f') => (1, Some('\u{c}')),
            Some('n') => (1, Some('\n')),
            Some('r') => (1, Some('\r')),
            Some('t') => (1, Some('\t')),
            Some('v') => (1, Some('\u{b}')),
            Some('0'..='7') => {
                let (run, value) = digits(0, 3, 8);
                (run, value)
            }
            Some(kind @ ('x' | 'u' | 'U')) => {
                let width = match kind {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                match digits(1, width, 16) {
                    (run, Some(value)) if run == width => (1 + width, Some(value)),
                    _ => (0, Some('\\')),
                }
            }
            _ => (0, Some('\\')),
        };
        result.extend(value);
        rest = &code[length..];
    }
    result.push_str(rest);
    result
}

/// A value as a string that the engine reads back. Line breaks stay as they are, so that lines are counted alike.
fn escape(value: &str) -> String {
    let mut result = String::with_capacity(value.len() + 2);
    result.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            result.push('\\');
        }
        result.push(c);
    }
    result.push('\'');
    result
}

/// Several expressions with what stands between them.
fn expressions(tokens: &[Token]) -> String {
    let mut writer = Rewriter::default();
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let before = tokens[..at].iter().rev().find(|token| !token.is_space());
        let before = before.map_or("", |token| token.text.as_str());
        at += 1;
        match (token.kind, token.text.as_str()) {
            (TokenKind::Open, open) => {
                let end = at + closing(&tokens[at..]);
                let key: Vec<&str> =
                    tokens[at..end].iter().filter(|token| !token.is_space()).map(|token| token.text.as_str()).collect();
                let method = key.first().map(|key| key.trim_matches('\''));
                if open == "["
                    && key.len() == 1
                    && method.is_some_and(|key| METHODS.contains(&key))
                    && writer.begun()
                    && writer.is_chain()
                {
                    writer.operand = format!(" {ITEM}({},{}) ", writer.operand, key[0]);
                    at = end + 1;
                    continue;
                }
                writer.operand.push_str(open);
                writer.operand.push_str(&expressions(&tokens[at..end]));
                at = end;
            }
            (TokenKind::Word, word) if before == "." => {
                let called = tokens.get(at).is_some_and(|next| next.text == "(");
                if called && METHODS.contains(&word) {
                    writer.operand.push_str(METHOD);
                }
                writer.operand.push_str(word);
            }
            (TokenKind::Word, word) if before != "is" && SEPARATORS.contains(&word) => {
                // `is not in` is one test.
                let test = word == "in" && before == "not" && writer.testing;
                if test {
                    writer.operand.push_str(word)
                } else {
                    writer.separate(word)
                }
                writer.testing = false;
            }
            (TokenKind::Word, word) => {
                writer.testing |= word == "not" && before == "is";
                writer.operand.push_str(word);
            }
            (TokenKind::Operator, "~") => writer.concat(),
            (TokenKind::Operator, operator @ ("*" | "/" | "//" | "%")) if writer.begun() => writer.product(operator),
            (TokenKind::Operator, sign @ ("+" | "-")) if writer.begun() => writer.separate(sign),
            // The engine has no sign that changes nothing.
            (TokenKind::Operator, "+") => {}
            (TokenKind::Operator, "," | ":" | "=" | "==" | "!=" | "<" | "<=" | ">" | ">=") => {
                writer.separate(&token.text)
            }
            (_, text) => writer.operand.push_str(text),
        }
    }
    writer.separate("");
    writer.result
}

/// Tokens up to the bracket that closes one that was opened before them.
fn closing(tokens: &[Token]) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close if depth == 0 => return at,
            TokenKind::Close => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Writes expressions whose `~` and `%` become calls.
#[derive(Default)]
struct Rewriter {
    result: String,
    /// Parts of a concatenation that are whole.
    parts: Vec<String>,
    /// A product in front of the operator that came last.
    product: Option<(String, String)>,
    operand: String,
    /// Inside `is not`.
    testing: bool,
}

impl Rewriter {
    /// Whether an operand stands in front of an operator.
    fn begun(&self) -> bool {
        !self.operand.trim().is_empty()
    }

    /// Whether the operand is one value with what is read from it, so that a call can enclose it.
    fn is_chain(&self) -> bool {
        let mut depth = 0usize;
        self.operand.trim().bytes().all(|byte| {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth > 0 || byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b')' | b']' | b'}')
        })
    }

    fn product(&mut self, operator: &str) {
        let left = self.multiplied();
        self.product = Some((left, operator.to_owned()));
    }

    /// The product up to here.
    fn multiplied(&mut self) -> String {
        let right = std::mem::take(&mut self.operand);
        match self.product.take() {
            None => right,
            // Python fills a text with the values of a tuple, and with a list as one value; the engine has no tuples.
            Some((left, operator)) if operator == "%" && right.trim_start().starts_with('(') => {
                format!(" {REMAINDER}({left},{right},true) ")
            }
            Some((left, operator)) if operator == "%" => format!(" {REMAINDER}({left},{right}) "),
            Some((left, operator)) => left + &operator + &right,
        }
    }

    fn concat(&mut self) {
        let part = self.multiplied();
        self.parts.push(part);
    }

    fn separate(&mut self, separator: &str) {
        let last = self.multiplied();
        if self.parts.is_empty() {
            self.result.push_str(&last);
        } else {
            self.parts.push(last);
            self.result.push_str(&format!(" {CONCAT}({}) ", self.parts.join(",")));
            self.parts.clear();
        }
        self.result.push_str(separator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_become_calls_by_jinjas_precedence() {
        let of = |body: &str| translate(&format!("{{{{ {body} }}}}")).0.replace(' ', "");
        assert_eq!(of("a ~ b + c ~ d"), "{{ftk_concat(a,b)+ftk_concat(c,d)}}");
        assert_eq!(of("a * b % c * -d"), "{{ftk_remainder(a*b,c)*-d}}");
        assert_eq!(
            of("f(x ~ 1, *y)[a % 2 == 0].z | g('%' ~ q)"),
            "{{f(ftk_concat(x,1),*y)[ftk_remainder(a,2)==0].z|g(ftk_concat('%',q))}}"
        );
        assert_eq!(of("a ~ b if c is not in d else -e ~ f"), "{{ftk_concat(a,b)ifcisnotindelseftk_concat(-e,f)}}");
        assert_eq!(of("a.b['items'].c + -x['items']"), "{{ftk_item(a.b,'items').c+-x['items']}}");
        assert_eq!(of("d.items() + d.get ('a') + get(d).items"), "{{d.ftk_method_items()+d.get('a')+get(d).items}}");
    }

    #[test]
    fn defaults_that_name_a_parameter_are_read_inside_the_macro() {
        let of = |text: &str| translate(text).0;
        assert_eq!(
            of("{%- macro f(a, b=a ~ 'x', c=1) -%} {{ b }}"),
            "{%- macro f(a, b, c=1) %}{% set b = (ftk_concat(a , 'x')) if b is undefined else b -%} {{ b }}"
        );
        let plain = "{% macro f(a, b='a', c=[1, 2]) %}";
        assert_eq!(of(plain), plain);
    }

    #[test]
    fn what_is_no_expression_stays() {
        for text in [
            "a % b ~ c {# a ~ b #} { x ~ y }",
            "{% raw %}{{ a ~ b }}{% endraw %}",
            "{%- for a, b in c recursive -%}{{- a -}}{%+ endfor %}",
            "{{ {'a': {'b': 1}} }}",
            "{% set x = '}} %}' %}{{",
        ] {
            assert_eq!(translate(text), (text.to_owned(), false));
        }
        assert_eq!(translate("a\r\nb\rc{{ 'x\r\n' }}").0, "a\nb\nc{{ 'x\n' }}");
        let marked = "{%- generation -%}{{ 'a' ~ b }}{% endgeneration %}";
        let expected = "{%- filter ftk_generated -%}{{ ftk_concat( 'a' , b ) }}{% endfilter %}";
        assert_eq!(translate(marked), (expected.to_owned(), true));
    }

    #[test]
    fn strings_are_pythons() {
        let of = |text: &str| translate(&format!("{{{{ {text} }}}}")).0;
        assert_eq!(of(r"'\d\x41\u00e9\101\n'"), "{{ '\\\\dAéA\n' }}");
        assert_eq!(of(r#""it's \"" 'b'"#), r#"{{ 'it\'s "b' }}"#);
        assert_eq!(of(r"'\x4'"), r"{{ '\\x4' }}");
    }
}
