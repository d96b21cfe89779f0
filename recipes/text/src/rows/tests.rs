//! Every column of every format: read, counted or refused by its name.

use ftk_bases::Message;
use serde_json::json;

use super::super::turn;
use super::*;

fn columns(row: &Value) -> Columns<'static> {
    let mut row = row.as_object().unwrap().clone();
    row.retain(|name, value| COLUMNS.contains(&name.as_str()) && !value.is_null());
    Columns::new(Path::new("r.jsonl"), RowPlace::Line(3), row, None)
}

/// A row, and what of it is not read.
fn whole<R: Row>(row: &Value) -> Result<(R, Vec<String>), String> {
    let columns = columns(row);
    let read = R::read(&columns).and_then(|row| columns.rest(R::PASSED_OVER).map(|()| row));
    let row = read.map_err(|error| error.to_string())?;
    Ok((row, columns.unread.into_inner().into_iter().collect()))
}

fn sft(row: Value) -> Result<SftRow, String> {
    whole(&row).map(|(row, _)| row)
}

fn pair(row: Value) -> Result<PairRow, String> {
    whole(&row).map(|(row, _)| row)
}

fn chat(turns: &[(&str, &str)]) -> PlainText {
    let messages: Vec<Message> = turns.iter().map(|&(role, text)| Message::new(role, text)).collect();
    PlainText::Chat(messages.into())
}

#[test]
fn questions_are_read_without_their_answers() {
    let asked = |row: Value| whole::<PromptRow>(&row).map(|(row, _)| row);
    let question = || Ok(PromptRow::Text(chat(&[("user", "q")])));
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    assert_eq!(asked(json!({"messages": turns})), question());
    assert_eq!(asked(json!({"prompt": [turns[0]], "chosen": "a", "rejected": "b"})), question());
    assert_eq!(asked(json!({"instruction": "q", "output": "a"})), question());
    assert_eq!(asked(json!({"text": "t"})), Ok(PromptRow::Text(PlainText::Plain("t".to_owned()))));
    assert_eq!(asked(json!({"prompt_ids": [4, 5], "chosen_ids": [6]})), Ok(PromptRow::Ids(vec![4, 5])));
    let nothing = asked(json!({"messages": [{"role": "assistant", "content": "a"}]}));
    assert_eq!(nothing, Err("r.jsonl:3:messages: asks nothing".to_owned()));
    let two = asked(json!({"prompt": "q", "text": "t"}));
    assert_eq!(two, Err("r.jsonl:3: can be read in two ways: prompt, or text".to_owned()));
    assert!(asked(json!({"chosen": "a"})).unwrap_err().starts_with("r.jsonl:3: needs prompt"));
}

#[test]
fn ids_ask_what_stands_before_the_first_that_is_scored() {
    let asked = |labels: Value| whole::<PromptRow>(&json!({"input_ids": [5, 6, 7], "labels": labels})).unwrap().0;
    assert_eq!(asked(json!([-100, -100, 7])), PromptRow::Ids(vec![5, 6]));
    assert_eq!(asked(json!([5, 6, 7])), PromptRow::Ids(vec![5, 6, 7]));
    assert_eq!(asked(json!([-100, -100, -100])), PromptRow::Ids(vec![5, 6, 7]));
}

#[test]
fn sharegpt_and_alpaca_are_read_as_conversations() {
    let row = json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
                     "system": "s", "id": 7});
    let whole = chat(&[("system", "s"), ("user", "q"), ("assistant", "a")]);
    assert_eq!(sft(row).unwrap(), SftRow::Whole(whole));
    let row = json!({"instruction": "i", "input": "", "output": "o", "history": [["q", "a"]]});
    let prompt = chat(&[("user", "q"), ("assistant", "a"), ("user", "i")]);
    assert_eq!(sft(row).unwrap(), SftRow::Completion(prompt, chat(&[("assistant", "o")])));
    let row = json!({"instruction": "i", "input": "more", "output": "o", "system": null});
    let prompt = chat(&[("user", "i\nmore")]);
    assert_eq!(sft(row).unwrap(), SftRow::Completion(prompt, chat(&[("assistant", "o")])));
}

#[test]
fn pairs_are_read_in_every_shape() {
    let answer = |text| chat(&[("assistant", text)]);
    let expected = PairRow::Text(chat(&[("user", "q")]), answer("y"), answer("n"));
    let (q, y, n) = (
        json!({"role": "user", "content": "q"}),
        json!({"role": "assistant", "content": "y"}),
        json!({"role": "assistant", "content": "n"}),
    );
    for row in [
        json!({"prompt": [q], "chosen": [y], "rejected": [n]}),
        json!({"chosen": [q, y], "rejected": [q, n], "messages": [q, y]}),
        json!({"prompt": "q", "chosen": [q, y], "rejected": [q, n]}),
        json!({"prompt": "q", "chosen": [y], "rejected": [n]}),
        json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "y"},
               "rejected": {"from": "gpt", "value": "n"}}),
        json!({"instruction": "q", "input": "", "chosen": "y", "rejected": "n"}),
    ] {
        assert_eq!(pair(row.clone()).unwrap(), expected, "{row}");
    }
}

#[test]
fn an_implicit_prompt_is_the_longest_common_prefix() {
    let split = |chosen: &str, rejected: &str| {
        pair(json!({"chosen": chosen, "rejected": rejected})).map(|row| match row {
            PairRow::Text(PlainText::Plain(p), PlainText::Plain(c), PlainText::Plain(r)) => [p, c, r],
            _ => panic!("{row:?}"),
        })
    };
    assert_eq!(split("The sky is blue", "The sky is green").unwrap(), ["The sky is", " blue", " green"]);
    assert_eq!(split("é àx", "é ày").unwrap(), ["é à", "x", "y"]);
    assert_eq!(split("a ab", "a abé").unwrap(), ["a a", "b", "bé"]);
    assert_eq!(split("the same", "the same").unwrap(), ["the sam", "e", "e"]);
    assert_eq!(split("天空是蓝", "天空是绿").unwrap(), ["天空是", "蓝", "绿"]);
    let none =
        "r.jsonl:3:prompt: is missing, and chosen and rejected have no more than one word in common at their beginning";
    for (chosen, rejected) in [("x", "y"), ("The Aller.", "The river"), ("same", "same")] {
        assert_eq!(split(chosen, rejected).unwrap_err(), none);
    }
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let [q, a, b] = [turn("user", "q"), turn("assistant", "a"), turn("user", "b")];
    let longer = pair(json!({"chosen": [q, a], "rejected": [q, a, b, a]})).unwrap();
    let (prompt, rejected) = (chat(&[("user", "q")]), chat(&[("assistant", "a"), ("user", "b"), ("assistant", "a")]));
    assert_eq!(longer, PairRow::Text(prompt, chat(&[("assistant", "a")]), rejected));
}

#[test]
fn a_completion_alone_says_whether_it_is_wanted() {
    let read = |row: Value| whole::<UnpairedRow>(&row).map(|(row, _)| row);
    let plain = |text: &str| PlainText::Plain(text.to_owned());
    let row = json!({"prompt": "q", "completion": "a", "label": false});
    assert_eq!(read(row), Ok(UnpairedRow::Text(plain("q"), plain("a"), false)));
    let row = json!({"prompt_ids": [4], "completion_ids": [5, 6], "label": true});
    assert_eq!(read(row), Ok(UnpairedRow::Ids([vec![4], vec![5, 6]], true)));
    let row = json!({"instruction": "q", "output": "a", "label": true});
    let (prompt, answer) = (chat(&[("user", "q")]), chat(&[("assistant", "a")]));
    assert_eq!(read(row), Ok(UnpairedRow::Text(prompt, answer, true)));
    let refused = |row: Value| read(row).unwrap_err();
    assert_eq!(refused(json!({"prompt": "q", "completion": "a"})), "r.jsonl:3:label: is missing");
    let numbered = refused(json!({"prompt": "q", "completion": "a", "label": 1}));
    assert_eq!(numbered, "r.jsonl:3:label: must be true or false: whether the completion is wanted");
    assert_eq!(refused(json!({"prompt": "q", "label": true})), "r.jsonl:3:completion: is missing");
    assert!(refused(json!({"chosen": "q", "label": true})).starts_with("r.jsonl:3: needs prompt and completion"));
}

#[test]
fn what_has_two_readings_or_none_is_refused_by_its_columns() {
    let turn = json!({"role": "user", "content": "q"});
    for (row, message) in [
        (json!({"text": "t", "messages": []}), ": can be read in two ways: messages, or text"),
        (
            json!({"instruction": "i", "output": "o", "text": "t"}),
            ": can be read in two ways: text, or instruction and output",
        ),
        (json!({"prompt": "p", "text": null}), ":completion: is missing"),
        (json!({"prompt": "p", "completion": [turn]}), ":prompt: must be strings or lists of messages alike"),
        (
            json!({"messages": [{"role": "user"}]}),
            ":messages: a turn's content must be text or a list of parts, and is nothing: user",
        ),
        (
            json!({"conversations": [{"from": "narrator", "value": "v"}]}),
            ":conversations: from must be human, gpt, system, user, assistant, tool, observation, function_call or function_response: narrator",
        ),
        (
            json!({"messages": [{"role": "a", "content": 3, "tool_calls": [1]}]}),
            ":messages: a turn's content must be text or a list of parts, and is a number: a",
        ),
        (
            json!({"text": "t", "images": ["i"]}),
            ":images: is not read beside text, and the row would mean something else without it",
        ),
        (
            json!({"text": "t", "label": false}),
            ":label: says whether the answer is wanted, but sft learns every answer",
        ),
    ] {
        assert_eq!(sft(row).unwrap_err(), format!("r.jsonl:3{message}"));
    }
    for (row, message) in [
        (json!({"chosen": "c"}), ":rejected: is missing"),
        (
            json!({"prompt": "p", "instruction": "i", "chosen": "c", "rejected": "r"}),
            ": can be read in two ways, with the prompt in: prompt, instruction",
        ),
        (
            json!({"prompt": "other", "chosen": [turn, turn], "rejected": [turn, {"role": "a", "content": "r"}]}),
            ":prompt: is not among the messages of chosen and rejected",
        ),
        (
            json!({"prompt": [turn], "chosen": "c", "rejected": "r"}),
            ":prompt: must be strings or lists of messages alike",
        ),
        (
            json!({"chosen": [turn], "rejected": [{"role": "a", "content": "r"}]}),
            ":prompt: is missing, and chosen and rejected do not begin with one message",
        ),
    ] {
        assert_eq!(pair(row).unwrap_err(), format!("r.jsonl:3{message}"));
    }
}

#[test]
fn columns_of_known_formats_are_used_or_refused_by_their_names() {
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]);
    let row = sft(json!({"system": "s", "messages": turns})).unwrap();
    assert_eq!(row, SftRow::Whole(chat(&[("system", "s"), ("user", "q"), ("assistant", "r")])));
    let row = sft(json!({"system": "s", "prompt": [turns[0]], "completion": [turns[1]]})).unwrap();
    assert_eq!(row, SftRow::Completion(chat(&[("system", "s"), ("user", "q")]), chat(&[("assistant", "r")])));
    let lost = |key: &str, read: &str| {
        format!("r.jsonl:3:{key}: is not read beside {read}, and the row would mean something else without it")
    };
    for (row, key, read) in [
        (json!({"system": "s", "prompt": "q", "completion": "r"}), "system", "completion, prompt"),
        (json!({"input": "i", "prompt": "q", "completion": "r"}), "input", "completion, prompt"),
        (json!({"history": [["a", "b"]], "messages": turns}), "history", "messages"),
        (json!({"system": "s", "text": "t"}), "system", "text"),
        (json!({"prompt": "other", "messages": turns}), "prompt", "messages"),
        (json!({"context": "c", "instruction": "i", "output": "o"}), "context", "instruction, output"),
        (json!({"position_ids": [0, 0], "input_ids": [4, 5]}), "position_ids", "input_ids"),
        (json!({"functions": [{}], "messages": turns}), "functions", "messages"),
    ] {
        assert_eq!(sft(row).unwrap_err(), lost(key, read));
    }
    let pairs = "chosen, rejected";
    for (row, key) in [
        (json!({"system": "s", "question": "q", "chosen": "The a", "rejected": "The b"}), "system"),
        (json!({"question": "q", "chosen": "The a", "rejected": "The b"}), "question"),
        (json!({"input": "q", "chosen": "It is a", "rejected": "No"}), "input"),
    ] {
        assert_eq!(pair(row).unwrap_err(), lost(key, pairs));
    }
    let other = sft(json!({"system": "s", "messages": [{"role": "system", "content": "t"}, turns[0]]}));
    assert_eq!(other.unwrap_err(), "r.jsonl:3:system: differs from the system turn of the messages");
    // What is told to do instead reads the whole row.
    let parted =
        json!({"system": "s", "prompt": [{"role": "system", "content": "t"}, turns[0]], "completion": [turns[1]]});
    match SftRow::read(&columns(&parted)) {
        Err(TextError::Row { key, choice, .. }) => {
            assert_eq!((key.as_str(), choice), ("system", vec!["prompt".to_owned(), "completion".to_owned()]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn columns_that_repeat_what_is_read_or_hold_nothing_are_no_loss() {
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r", "id": 3}]);
    let row = json!({"prompt": "q", "messages": turns, "input": "", "tools": "[]", "images": []});
    let (row, unread) = whole::<SftRow>(&row).unwrap();
    assert!(matches!(row, SftRow::Whole(_)));
    assert_eq!(unread, ["prompt"]);
    let read = |row: Value| whole::<SftRow>(&row).unwrap().1;
    assert_eq!(read(json!({"text": "Question: q", "question": "q", "label": 1})), ["label", "question"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    std::fs::write(&path, "{\"text\": \"a\", \"id\": 1, \"x\": null}\n{\"text\": \"b\", \"id\": 2}\n").unwrap();
    let file = super::read::<SftRow>(&path, &Options::default()).unwrap();
    assert_eq!(file.unread, BTreeMap::from([("id".to_owned(), 2)]));
    let columns = Some(vec!["text".to_owned()]);
    let file = super::read::<SftRow>(&path, &Options { columns, ..Options::default() }).unwrap();
    assert_eq!(file.unread, BTreeMap::new());
}

#[test]
fn ids_lose_their_padding_and_labels_stand_at_their_places() {
    let row = json!({"input_ids": [9, 9, 5, 6, 7, 9], "attention_mask": [0, 0, 1, 1, 1, 0],
                     "labels": [-100, -100, -100, 6, 7, -100]});
    assert_eq!(sft(row).unwrap(), SftRow::Ids(vec![5, 6, 7], Some(vec![-100, 6, 7])));
    let row = json!({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1], "assistant_masks": [0, 0, 1]});
    assert_eq!(sft(row).unwrap(), SftRow::Ids(vec![5, 6, 7], Some(vec![-100, -100, 7])));
    for (row, message) in [
        (
            json!({"input_ids": [5, 6, 7, 8], "labels": [6, 7, 8, -100]}),
            "labels: scores another id than the one at its place, which labels that were shifted do: position 1",
        ),
        (
            json!({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}),
            "attention_mask: hides ids between others, and not only padding at the ends",
        ),
        (json!({"input_ids": [5], "attention_mask": [1, 1]}), "attention_mask: must be as long as input_ids"),
        (json!({"input_ids": [5], "attention_mask": [2]}), "attention_mask: must be a list of 0 and 1"),
    ] {
        assert_eq!(sft(row).unwrap_err(), format!("r.jsonl:3:{message}"));
    }
}

#[test]
fn instruction_and_input_are_joined_where_both_say_something() {
    let asked = |row: Value| match sft(row).unwrap() {
        SftRow::Completion(PlainText::Chat(chat), _) => chat.messages[0].content().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(json!({"instruction": "", "input": "q", "output": "r"})), "q");
    assert_eq!(asked(json!({"instruction": "i", "input": "", "output": "r"})), "i");
    assert_eq!(asked(json!({"instruction": "i", "input": "q", "output": "r"})), "i\nq");
}

#[test]
fn tools_reach_a_template_that_writes_them() {
    let turns = json!([{"role": "user", "content": "q"}]);
    let read = |tools: Value, template: &str| {
        let row = json!({"messages": turns, "tools": tools}).as_object().unwrap().clone();
        let template = ChatTemplate::new(template.to_owned(), &BTreeMap::new()).unwrap();
        let columns = Columns::new(Path::new("r.jsonl"), RowPlace::Line(3), row, Some(&template));
        match SftRow::read(&columns).map_err(|error| error.to_string())? {
            SftRow::Whole(PlainText::Chat(chat)) => Ok(chat.tools),
            other => panic!("{other:?}"),
        }
    };
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let writes = "{{ tools | tojson }}";
    assert_eq!(read(json!([tool]), writes), Ok(vec![tool.clone()]));
    assert_eq!(read(json!([tool]).to_string().into(), writes), Ok(vec![tool.clone()]));
    assert_eq!(read("[]".into(), "{{ messages }}"), Ok(vec![]));
    let error = "r.jsonl:3:tools: the chat template writes no tools, and the row would mean something else without";
    assert_eq!(read(json!([tool]), "{{ messages }}"), Err(error.to_owned()));
    assert!(read("f".into(), writes).unwrap_err().contains(":tools: must be a list of tools"));
}

#[test]
fn the_page_about_rows_names_what_the_code_knows() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/ROWS.md"));
    let fields = [turn::SAID.as_slice(), &turn::MARKS, &turn::DETAILS, &[turn::MASKED]].concat();
    for name in COLUMNS.iter().chain(&fields) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
    // And those that are refused are all columns that no reading takes.
    let refused = page.split("Refused where they hold").nth(1).and_then(|rest| rest.split('\n').next()).unwrap();
    let refused: Vec<&str> = refused.split('`').skip(1).step_by(2).collect();
    let first = COLUMNS.iter().position(|name| *name == refused[0]).unwrap();
    assert_eq!(refused, COLUMNS[first..]);
    assert!(COLUMNS[..first].iter().all(|name| page.contains(&format!("`{name}`"))));
    for name in refused {
        let row = json!({"text": "t", (name): "x"});
        assert!(sft(row).unwrap_err().starts_with(&format!("r.jsonl:3:{name}: is not read beside text")), "{name}");
    }
}

#[test]
fn slots_are_filled_once_and_everything_else_in_braces_stays() {
    let replace = BTreeMap::from([("name".to_owned(), "{{author}}".to_owned())]);
    let (mut filled, mut open) = (BTreeSet::new(), BTreeSet::new());
    let mut row = json!({"a": ["{{name}}{{name}}!", {"b": "{{{name}}} {{ name }} {{author}} {{}} {{x"}], "n": 1});
    fill(&mut row, &replace, &mut filled, &mut open);
    let expected =
        json!({"a": ["{{author}}{{author}}!", {"b": "{{{author}}} {{ name }} {{author}} {{}} {{x"}], "n": 1});
    assert_eq!(row, expected);
    assert_eq!((filled, open), (BTreeSet::from(["name".to_owned()]), BTreeSet::from(["author".to_owned()])));
}
