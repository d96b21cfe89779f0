//! Which ids a row becomes, and which of them are scored.

use ftk_adapters::hint::Hint;
use ftk_bases::village;
use serde_json::Value;

use super::*;

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The base that ships with ftk, with a template of the test's.
fn base(template: &str) -> (tempfile::TempDir, BaseModel) {
    let folder = tempfile::tempdir().unwrap();
    village::unpack(folder.path()).unwrap();
    let path = folder.path().join("base/tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["chat_template"] = template.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let source = BaseModel::open(&folder.path().join("base")).unwrap();
    (folder, source)
}

fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|&(role, text)| Message::new(role, text)).collect()
}

fn sft(source: &BaseModel, scored: Scored, row: SftRow) -> Result<ScoredSequence, String> {
    let encoder = Encoder::new(source, Path::new("r.jsonl"), scored, 1024);
    encoder.sft(RowPlace::Line(2), row).map_err(|error| error.to_string())
}

/// The stretches of a sequence that are scored, as text.
fn heard(source: &BaseModel, sequence: &ScoredSequence) -> Vec<String> {
    let (mut texts, mut start) = (Vec::new(), 0);
    for stretch in sequence.scored.chunk_by(|a, b| a == b) {
        let ids = &sequence.ids[start..start + stretch.len()];
        start += stretch.len();
        if stretch[0] {
            texts.push(source.tokenizer().unwrap().decode(ids, false).unwrap());
        }
    }
    texts
}

fn talk() -> Vec<Message> {
    chat(&[("user", "Where?"), ("assistant", "At the gate."), ("user", "Who?"), ("assistant", "Iris, é.")])
}

#[test]
fn every_turn_of_the_assistant_is_scored_up_to_the_token_that_ends_it() {
    let (_folder, source) = base(CHATML);
    let row = sft(&source, Scored::Assistant, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap();
    assert_eq!(heard(&source, &row), ["At the gate.<|im_end|>", "Iris, é.<|im_end|>"]);
    let whole = sft(&source, Scored::Completion, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap();
    assert_eq!(whole.ids, row.ids);
    assert_eq!(whole.items(), row.ids.len() - 1);
}

#[test]
fn marks_of_the_template_say_what_is_scored() {
    let marks = CHATML.replace(
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}",
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and not loop.last %}\
         {% generation %}{{ m.content + '<|im_end|>\n' }}{% endgeneration %}\
         {% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}",
    );
    assert_ne!(marks, CHATML);
    let (_folder, source) = base(&marks);
    let row = sft(&source, Scored::Assistant, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap();
    assert_eq!(heard(&source, &row), ["At the gate.<|im_end|>\n"]);
    let (_other, plain) = base(CHATML);
    assert_eq!(row.ids, sft(&plain, Scored::All, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap().ids);
}

#[test]
fn of_prompt_and_completion_the_part_is_scored_that_the_recipe_names() {
    let (_folder, source) = base(CHATML);
    let (prompt, completion) = (talk()[..3].to_vec(), talk()[3..].to_vec());
    let row = || SftRow::Completion(PlainText::Chat(prompt.clone().into()), PlainText::Chat(completion.clone().into()));
    let scored = |scored| heard(&source, &sft(&source, scored, row()).unwrap());
    assert_eq!(scored(Scored::Completion), ["Iris, é.<|im_end|>\n"]);
    assert_eq!(scored(Scored::Assistant), ["Iris, é.<|im_end|>"]);
    let all = sft(&source, Scored::All, row()).unwrap();
    assert_eq!(all.items(), all.ids.len() - 1);
}

#[test]
fn a_prompt_that_ends_otherwise_is_parted_where_both_begin_alike() {
    // As templates of models that think do: the prompt opens a block that the answer does not have.
    let opened =
        CHATML.replace("'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>assistant\n<think>\n' }}{% endif %}");
    assert_ne!(opened, CHATML);
    let (_folder, source) = base(&opened);
    let (prompt, answer) =
        (PlainText::Chat(talk()[..1].to_vec().into()), PlainText::Chat(talk()[1..2].to_vec().into()));
    for (scored, expected) in
        [(Scored::Completion, "At the gate.<|im_end|>\n"), (Scored::Assistant, "At the gate.<|im_end|>")]
    {
        let encoder = Encoder::new(&source, Path::new("r.jsonl"), scored, 1024);
        let row = encoder.sft(RowPlace::Line(2), SftRow::Completion(prompt.clone(), answer.clone()));
        match scored {
            Scored::Assistant => assert!(matches!(row, Err(TextError::Turns)), "{row:?}"),
            _ => {
                assert_eq!(heard(&source, &row.unwrap()), [expected]);
                assert_eq!(encoder.parted(), 1);
            }
        }
    }
    let encoder = Encoder::new(&source, Path::new("r.jsonl"), Scored::Completion, 1024);
    let no = PlainText::Chat(chat(&[("assistant", "No.")]).into());
    let pair = encoder.pair(RowPlace::Line(2), PairRow::Text(prompt.clone(), answer.clone(), no)).unwrap();
    assert_eq!(heard(&source, &pair.chosen), ["At the gate.<|im_end|>\n"]);
    assert_eq!(heard(&source, &pair.rejected), ["No.<|im_end|>\n"]);
    assert_eq!(encoder.parted(), 1);

    // A template that writes the question otherwise once it is answered would have it scored.
    let (_folder, source) = base(&("{{ messages | length }}".to_owned() + CHATML));
    let error = sft(&source, Scored::Completion, SftRow::Completion(prompt, answer.clone())).unwrap_err();
    assert_eq!(error, "r.jsonl:2: the chat template writes the prompt otherwise once it is answered");
    // So would one that does it further down, also where the last turn's words stand further up, too.
    let moved = CHATML.replace("+ m.content", "+ ('!' if loop.last else '') + m.content");
    assert_ne!(moved, CHATML);
    let (_folder, source) = base(&moved);
    let prompt = chat(&[("user", "yes"), ("assistant", "no"), ("user", "yes")]);
    let row = SftRow::Completion(PlainText::Chat(prompt.into()), answer);
    let error = sft(&source, Scored::Completion, row).unwrap_err();
    assert_eq!(error, "r.jsonl:2: the chat template writes the prompt otherwise once it is answered");
}

#[test]
fn turns_marked_as_unscored_are_not_scored() {
    let mark = |name: &str, value: Value| {
        let mut turns = talk();
        let fields = [("role", Value::from("assistant")), ("content", "BAD".into()), (name, value)];
        turns[1] = Message::of(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        SftRow::Whole(PlainText::Chat(turns.into()))
    };
    let marks = CHATML.replace(
        "m.content + '<|im_end|>\n' }}",
        "'' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}\
         {% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}",
    );
    assert_ne!(marks, CHATML);
    for template in [CHATML, &marks] {
        let (_folder, source) = base(template);
        for (name, value) in [("weight", Value::from(0)), ("train", false.into()), ("loss_weight", 0.0.into())] {
            let row = sft(&source, Scored::Assistant, mark(name, value.clone())).unwrap();
            assert_eq!(heard(&source, &row), ["Iris, é.<|im_end|>"], "{name}");
            let error = sft(&source, Scored::Completion, mark(name, value)).unwrap_err();
            let reason = "leaves a turn unscored, which data.loss = \"assistant\" alone can do";
            assert_eq!(error, format!("r.jsonl:2:{name}: {reason}"));
        }
        let row = sft(&source, Scored::Assistant, mark("weight", 1.into())).unwrap();
        assert_eq!(heard(&source, &row), ["BAD<|im_end|>", "Iris, é.<|im_end|>"]);
        let error = sft(&source, Scored::Assistant, mark("weight", 0.5.into())).unwrap_err();
        assert!(error.starts_with("r.jsonl:2:weight: says neither"), "{error}");
    }
}

#[test]
fn text_that_was_rendered_before_gets_no_second_beginning_or_end() {
    let (folder, _) = base(CHATML);
    // The tokenizer adds <s>-like tokens at both ends, as Llama's and others do.
    let path = folder.path().join("base/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let source = BaseModel::open(&folder.path().join("base")).unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let bos = source.special().bos.unwrap();
    let token = tokenizer.token(bos).unwrap();
    json["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {(token.clone()): {"id": token, "ids": [bos], "tokens": [token]}}
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let source = BaseModel::open(&folder.path().join("base")).unwrap();
    let encoder = Encoder::new(&source, Path::new("r.jsonl"), Scored::All, 1024);
    let end = source.special().eos.and_then(|id| source.tokenizer().unwrap().token(id)).unwrap();
    let text = |text: String| SftRow::Whole(PlainText::Plain(text));
    let bare = encoder.sft(RowPlace::Line(1), text("hi".to_owned())).unwrap();
    assert_eq!((bare.ids[0], encoder.begun()), (bos, 0));
    let rendered = encoder.sft(RowPlace::Line(2), text(format!("{token}hi{end}"))).unwrap();
    assert_eq!((&rendered, encoder.begun()), (&bare, 1));
    let broken = encoder.sft(RowPlace::Line(3), text(format!("{token}hi{end}\n"))).unwrap();
    assert_eq!(source.tokenizer().unwrap().decode(&broken.ids, false).unwrap(), format!("{token}hi{end}\n"));
    // The tokenizer adds it, whatever configurations name.
    for (file, key) in [
        ("tokenizer_config.json", "bos_token"),
        ("config.json", "bos_token_id"),
        ("generation_config.json", "bos_token_id"),
    ] {
        let path = folder.path().join("base").join(file);
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        json.as_object_mut().unwrap().remove(key);
        std::fs::write(&path, json.to_string()).unwrap();
    }
    let source = BaseModel::open(&folder.path().join("base")).unwrap();
    assert_eq!(source.special().bos, None);
    let encoder = Encoder::new(&source, Path::new("r.jsonl"), Scored::All, 1024);
    let again = encoder.sft(RowPlace::Line(2), text(format!("{token}hi{end}"))).unwrap();
    assert_eq!((again, encoder.begun()), (bare, 1));
}

#[test]
fn ids_that_are_padding_are_refused() {
    let (_folder, source) = base(CHATML);
    let pad = source.special().pad.unwrap();
    let ids = |front: usize, back: usize| [vec![pad; front], vec![5, 6], vec![pad; back]].concat();
    let message = "r.jsonl:2:input_ids: holds padding; take it away, or say in attention_mask where it stands";
    assert!(sft(&source, Scored::All, SftRow::Ids(ids(1, 1), None)).is_ok());
    for (front, back) in [(2, 0), (0, 2)] {
        let error = sft(&source, Scored::All, SftRow::Ids(ids(front, back), None)).unwrap_err();
        assert_eq!(error, message);
    }
    let unscored = ids(0, 3).iter().map(|&id| if id == pad { -100 } else { i64::from(id) }).collect();
    assert!(sft(&source, Scored::All, SftRow::Ids(ids(0, 3), Some(unscored))).is_ok());
}

#[test]
fn plain_completions_get_the_token_that_ends_them_and_have_no_turns() {
    let (_folder, source) = base(CHATML);
    let text = |text: &str| PlainText::Plain(text.to_owned());
    let row = || SftRow::Completion(text("Where?"), text(" At the gate."));
    let whole = sft(&source, Scored::Completion, row()).unwrap();
    assert_eq!(heard(&source, &whole), [" At the gate.<|im_end|>"]);
    let error = sft(&source, Scored::Assistant, row()).unwrap_err();
    assert_eq!(error, "r.jsonl:2: has no turns, of which data.loss = \"assistant\" scores the assistant's");
}

#[test]
fn turns_that_generation_would_not_end_are_refused_with_the_token_that_ends_them() {
    let unended = CHATML.replace("<|im_end|>\n", "|\n");
    assert_ne!(unended, CHATML);
    let (_folder, source) = base(&unended);
    let message = "r.jsonl:2: generation stops at <|im_end|>, but the assistant's turn ends with: ";
    for scored in [Scored::Completion, Scored::Assistant, Scored::All] {
        let error = sft(&source, scored, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap_err();
        assert!(error.starts_with(message) && error.ends_with('|'), "{error}");
        // What ends the turn is text: it is the template that is to be mended.
        let encoder = Encoder::new(&source, Path::new("r.jsonl"), scored, 1024);
        let error = encoder.sft(RowPlace::Line(2), SftRow::Whole(PlainText::Chat(talk().into()))).unwrap_err();
        assert!(error.hint().unwrap().contains("let it write <|im_end|> behind every turn"));
    }
    let (prompt, other) =
        (PlainText::Chat(talk()[..1].to_vec().into()), PlainText::Chat(chat(&[("assistant", "No.")]).into()));
    let pair = PairRow::Text(prompt, PlainText::Chat(talk()[1..2].to_vec().into()), other);
    let encoder = Encoder::new(&source, Path::new("r.jsonl"), Scored::Completion, 1024);
    assert!(encoder.pair(RowPlace::Line(2), pair).unwrap_err().to_string().starts_with(message));
    // Nothing is promised about what a user says.
    assert!(sft(&source, Scored::All, SftRow::Whole(PlainText::Chat(talk()[..1].to_vec().into()))).is_ok());
    // An end-of-turn token in the middle is no end.
    let middle = CHATML.replace("<|im_end|>\n", "<|im_end|> and so on");
    let (_folder, source) = base(&middle);
    let error = sft(&source, Scored::Completion, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap_err();
    assert!(error.starts_with(message), "{error}");
}

#[test]
fn a_template_that_rewrites_earlier_turns_is_refused_unless_it_marks_them() {
    let (_folder, source) = base(&("{{ messages | length }}".to_owned() + CHATML));
    let error = sft(&source, Scored::Assistant, SftRow::Whole(PlainText::Chat(talk().into()))).unwrap_err();
    assert_eq!(error, "the chat template neither marks the assistant's turns nor appends them one by one");
    assert!(sft(&source, Scored::Completion, SftRow::Whole(PlainText::Chat(talk().into()))).is_ok());
}

#[test]
fn turns_behind_the_limit_are_not_looked_for_but_the_first() {
    let (_folder, source) = base(CHATML);
    for limit in [1, 4] {
        let found = turns(&source, &talk().into(), limit).unwrap();
        assert_eq!(found.spoken.len(), 1, "{limit}");
    }
    assert_eq!(turns(&source, &talk().into(), 1024).unwrap().spoken.len(), 2);
}
