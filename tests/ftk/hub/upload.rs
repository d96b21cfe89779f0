//! The part of the endpoint that takes files, and the storage that it sends large ones to.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::server::{State, hex};

/// The commit that everything pushed becomes.
pub(super) const PUSHED: &str = "3333333333333333333333333333333333333333";

/// Status and body for a request that brings something.
pub(super) fn answer(
    state: &mut State,
    own: &str,
    path: &str,
    content: &[u8],
    authorization: Option<&String>,
) -> (&'static str, String) {
    if let Some(oid) = path.strip_prefix("/storage/") {
        // Under another origin there is no token, and here it is the same content as was announced.
        assert_eq!(hex(digest(&SHA256, content).as_ref()), oid);
        state.objects.insert(oid.to_owned(), content.to_owned());
        return ("200 OK", String::new());
    }
    let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
    if token.is_none() || token != state.token.as_deref() {
        return (if token == Some("hf_reads") { "403 Forbidden" } else { "401 Unauthorized" }, String::new());
    }
    if path == "/api/repos/create" {
        let asked: Value = serde_json::from_slice(content).unwrap();
        let known = state.made.iter().any(|made| made["name"] == asked["name"]);
        state.made.push(asked);
        return (if known { "409 Conflict" } else { "200 OK" }, "{}".to_owned());
    }
    if path.ends_with("/verify") {
        let asked: Value = serde_json::from_slice(content).unwrap();
        let there = state.objects.get(asked["oid"].as_str().unwrap()).is_some_and(|own| asked["size"] == own.len());
        return (if there { "200 OK" } else { "404 Not Found" }, "{}".to_owned());
    }
    if path.ends_with("/preupload/main") {
        let asked: Value = serde_json::from_slice(content).unwrap();
        let wish = |file: &Value| {
            let large = file["path"].as_str().unwrap().ends_with(".safetensors");
            json!({ "path": file["path"], "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false })
        };
        let files: Vec<Value> = asked["files"].as_array().unwrap().iter().map(wish).collect();
        return ("200 OK", json!({ "files": files }).to_string());
    }
    if path.ends_with(".git/info/lfs/objects/batch") {
        let asked: Value = serde_json::from_slice(content).unwrap();
        let storage = state.storage.clone().unwrap_or_else(|| own.to_owned());
        let place = |object: &Value| {
            let oid = object["oid"].as_str().unwrap();
            let mut told = object.clone();
            if !state.objects.contains_key(oid) {
                let upload =
                    json!({ "href": format!("{storage}/storage/{oid}"), "header": { "x-amz-meta-kind": "adapter" } });
                told["actions"] = json!({ "upload": upload, "verify": { "href": format!("{own}/verify") } });
            }
            told
        };
        let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(place).collect();
        return ("200 OK", json!({ "transfer": "basic", "objects": objects }).to_string());
    }
    let repo = path.strip_prefix("/api/models/").and_then(|path| path.strip_suffix("/commit/main")).unwrap().to_owned();
    for line in std::str::from_utf8(content).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let value = &line["value"];
        let content = match line["key"].as_str().unwrap() {
            "header" => continue,
            "lfsFile" => state.objects[value["oid"].as_str().unwrap()].clone(),
            "file" => decoded(value["content"].as_str().unwrap()),
            other => panic!("{other}"),
        };
        let name = value["path"].as_str().unwrap().to_owned();
        state.files.insert((repo.clone(), PUSHED.to_owned(), name), content);
    }
    state.main.insert(repo, PUSHED.to_owned());
    ("200 OK", json!({ "commitOid": PUSHED, "commitUrl": "", "hookOutput": "" }).to_string())
}

/// Base64 by its definition: six bits a letter.
fn decoded(text: &str) -> Vec<u8> {
    let place = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters = text.trim_end_matches('=').bytes().map(place);
    let bits: Vec<u8> = letters.flat_map(|six| (0..6).rev().map(move |bit| six >> bit & 1)).collect();
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}
