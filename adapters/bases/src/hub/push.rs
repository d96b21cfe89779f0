//! To the hub: files of a folder as one commit. Small ones are in it; large ones go to where the endpoint sends them first
//! (Git LFS, "Batch API"; the requests are those of `huggingface_hub`'s `create_commit`).

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ftk_adapters::foreign;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Client, Failure};

/// Bytes of a file's beginning that the endpoint sees when it says how it wants the file.
const SAMPLE: u64 = 512;
/// Most bytes of a file that is a part of the commit itself.
const INLINE: u64 = 16 << 20;
const JSON: &str = "application/json";
const LFS: &str = "application/vnd.git-lfs+json";
const LINES: &str = "application/x-ndjson";

/// What is pushed, and to where.
#[derive(Debug)]
pub struct Push<'a> {
    /// `ORG/NAME` of a model.
    pub id: &'a str,
    /// Whether the repository is for its owner alone, if it is made now.
    pub private: bool,
    /// The commit's first line.
    pub summary: &'a str,
    /// Files by their path in the repository.
    pub files: &'a [(String, PathBuf)],
}

/// What became of it.
#[derive(Debug)]
pub struct Pushed {
    /// The commit.
    pub commit: String,
    /// Files whose content the endpoint did not have.
    pub sent: Vec<String>,
}

/// How the endpoint wants a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wish {
    path: String,
    upload_mode: UploadMode,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum UploadMode {
    Regular,
    Lfs,
}

/// A file with what the endpoint is told of it.
struct Offered<'a> {
    name: &'a str,
    path: &'a Path,
    size: u64,
    /// SHA-256.
    oid: String,
}

/// Where storage takes a file.
#[derive(Deserialize)]
struct StorageAction {
    href: String,
    #[serde(default)]
    header: serde_json::Map<String, Value>,
}

/// A client with what it is to push.
pub(super) struct Errand<'a> {
    pub(super) client: Client<'a>,
    pub(super) push: &'a Push<'a>,
}

impl Errand<'_> {
    /// Sees a file's name, the bytes that are there, and their number in the end.
    pub(super) fn run(&self, report: &mut dyn FnMut(&str, u64, u64)) -> Result<Pushed, Failure> {
        let files = self.push.files.iter().map(|(name, path)| offered(name, path)).collect::<Result<Vec<_>, _>>()?;
        self.create()?;
        let wishes = self.wishes(&files)?;
        let mode = |file: &Offered<'_>| {
            let wish = wishes.iter().find(|wish| wish.path == file.name);
            wish.map(|wish| wish.upload_mode == UploadMode::Lfs)
                .ok_or_else(|| Failure::Answer(format!("not a word of how it wants {}", file.name)))
        };
        let large = files.iter().map(mode).collect::<Result<Vec<bool>, _>>()?;
        let by_mode =
            |lfs: bool| files.iter().zip(&large).filter(move |(_, large)| **large == lfs).map(|(file, _)| file);
        let mut sent: Vec<String> = by_mode(false).map(|file| file.name.to_owned()).collect();
        sent.extend(self.store(&by_mode(true).collect::<Vec<_>>(), report)?);
        let mut lines = vec![json!({ "key": "header", "value": { "summary": self.push.summary, "description": "" } })];
        for (file, large) in files.iter().zip(large) {
            lines.push(if large {
                let value = json!({ "path": file.name, "algo": "sha256", "oid": file.oid, "size": file.size });
                json!({ "key": "lfsFile", "value": value })
            } else {
                let content = foreign::read(file.path, INLINE).map_err(|error| unreadable(file.path, error))?;
                let content = BASE64_STANDARD.encode(content);
                json!({ "key": "file", "value": { "path": file.name, "content": content, "encoding": "base64" } })
            });
        }
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let answer = self.ask(&format!("api/models/{}/commit/main", self.push.id), LINES, &lines)?;
        let commit = answer["commitOid"].as_str().ok_or_else(|| Failure::Answer("no commit".to_owned()))?;
        Ok(Pushed { commit: commit.to_owned(), sent })
    }

    fn ask(&self, path: &str, kind: &str, text: &str) -> Result<Value, Failure> {
        let answer = self.client.post(&self.client.address(path)?, kind, text)?;
        serde_json::from_str(&answer).map_err(|error| Failure::Answer(format!("no JSON: {error}")))
    }

    /// Makes the repository; one that is there stays as it is.
    fn create(&self) -> Result<(), Failure> {
        let (organization, name) = self.push.id.split_once('/').unwrap_or(("", self.push.id));
        let asked =
            json!({ "type": "model", "organization": organization, "name": name, "private": self.push.private });
        match self.client.post(&self.client.address("api/repos/create")?, JSON, &asked.to_string()) {
            Ok(_) => Ok(()),
            Err(Failure::Status(409, _)) if self.push.private => {
                let about = self.client.text(&self.client.address(&format!("api/models/{}", self.push.id))?)?;
                let about: Value = serde_json::from_str(&about).unwrap_or_default();
                if about["private"] == true { Ok(()) } else { Err(Failure::Public) }
            }
            Err(Failure::Status(409, _)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn wishes(&self, files: &[Offered<'_>]) -> Result<Vec<Wish>, Failure> {
        let mut asked = Vec::new();
        for file in files {
            let mut sample = Vec::new();
            foreign::open(file.path)
                .and_then(|content| content.take(SAMPLE).read_to_end(&mut sample))
                .map_err(|error| unreadable(file.path, error))?;
            asked.push(json!({ "path": file.name, "size": file.size, "sample": BASE64_STANDARD.encode(&sample) }));
        }
        let path = format!("api/models/{}/preupload/main", self.push.id);
        let answer = self.ask(&path, JSON, &json!({ "files": asked }).to_string())?;
        let wishes = answer.get("files").cloned().unwrap_or_default();
        serde_json::from_value(wishes).map_err(|error| Failure::Answer(format!("no list of files: {error}")))
    }

    /// Sends the content of files that storage does not have, and gives their names.
    fn store(&self, files: &[&Offered<'_>], report: &mut dyn FnMut(&str, u64, u64)) -> Result<Vec<String>, Failure> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let objects: Vec<Value> = files.iter().map(|file| json!({ "oid": file.oid, "size": file.size })).collect();
        let asked = json!({ "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects });
        let answer = self.ask(&format!("{}.git/info/lfs/objects/batch", self.push.id), LFS, &asked.to_string())?;
        let mut sent = Vec::new();
        for file in files {
            let told = answer["objects"].as_array().and_then(|all| all.iter().find(|object| object["oid"] == file.oid));
            let told = told.ok_or_else(|| Failure::Answer(format!("no place for {}", file.name)))?;
            if let Some(error) = told.get("error") {
                let reason = error["message"].as_str().unwrap_or("no reason");
                return Err(Failure::Answer(format!("{} is not taken: {reason}", file.name)));
            }
            let action = |name: &str| -> Result<Option<StorageAction>, Failure> {
                let action = told["actions"].get(name).cloned().map(serde_json::from_value).transpose();
                action.map_err(|error| Failure::Answer(format!("no place for {}: {error}", file.name)))
            };
            // It has the content already.
            let Some(upload) = action("upload")? else { continue };
            let headers: Vec<(String, String)> = upload
                .header
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect();
            let to = self.client.onward(&upload.href)?;
            self.client.put(&to, &headers, file.path, file.size, &mut |done| report(file.name, done, file.size))?;
            if let Some(verify) = action("verify")? {
                let said = json!({ "oid": file.oid, "size": file.size }).to_string();
                self.client.post(&self.client.onward(&verify.href)?, LFS, &said)?;
            }
            sent.push(file.name.to_owned());
        }
        Ok(sent)
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::Unreadable(path.to_owned(), error)
}

fn offered<'a>(name: &'a str, path: &'a Path) -> Result<Offered<'a>, Failure> {
    let unreadable = |error| unreadable(path, error);
    let mut file = foreign::open(path).map_err(unreadable)?;
    let (mut digest, mut size) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                digest.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
    let oid = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Offered { name, path, size, oid })
}
