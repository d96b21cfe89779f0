//! An endpoint that answers as the hub does, out of a state, with faults where it is told to have them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::{Value, json};

use super::upload;

/// How a file's content is sent.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Half of what was promised, then nothing.
    Breaks,
    /// Half, as if that were all.
    Short,
    /// As many bytes, but others.
    Other,
    /// Half, and then neither a byte nor an end.
    Stalls,
}

#[derive(Default)]
pub(super) struct State {
    /// Files by repository, commit and path.
    pub(super) files: BTreeMap<(String, String, String), Vec<u8>>,
    /// What `main` is.
    pub(super) main: BTreeMap<String, String>,
    pub(super) faults: BTreeMap<String, Fault>,
    /// Path and range of every request, and whether a token came with it.
    pub(super) asked: Vec<(String, bool)>,
    /// The same of the storage host, a server of another origin, to which large files are sent if it is there.
    pub(super) stored: Vec<(String, bool)>,
    pub(super) storage: Option<String>,
    /// How many requests are answered with this status and the wish to wait.
    pub(super) busy: (usize, u16),
    /// How many connections are closed without an answer.
    pub(super) mute: usize,
    /// Files are always sent whole.
    pub(super) whole: bool,
    /// The one token that it knows, of `tester`.
    pub(super) token: Option<String>,
    /// Repositories that were made, as they were asked for.
    pub(super) made: Vec<Value>,
    /// What was put into storage, by SHA-256.
    pub(super) objects: BTreeMap<String, Vec<u8>>,
    /// What is brought is sent on with this status.
    pub(super) moved: Option<&'static str>,
    /// Every answer is a page of somebody else.
    pub(super) portal: bool,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server that answers out of a state, and its address.
pub(super) fn serve(state: &Arc<Mutex<State>>, storage: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (shared, own) = (state.clone(), address.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away is no fault of the endpoint.
            let _ = answer(stream.unwrap(), &own, &shared, storage);
        }
    });
    address
}

/// The etag of a file: SHA-256 where it is large, which safetensors count as, else git's id.
pub(super) fn etag(name: &str, content: &[u8]) -> String {
    if name.ends_with(".safetensors") {
        return hex(digest(&SHA256, content).as_ref());
    }
    let object = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &object).as_ref())
}

/// Answers one request as the hub does: `/api/.../revision/...` lists a commit, `/.../resolve/...` gives a file, large
/// ones by way of another address.
fn answer(mut stream: TcpStream, own: &str, state: &Mutex<State>, storage: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = reader.by_ref().lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let headers: BTreeMap<String, String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())))
        .collect();
    if let mute @ 1.. = &mut state.lock().unwrap().mute {
        *mute -= 1;
        return Ok(());
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")).unwrap_or_default().to_owned();
    let mut content = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut content)?;
    let mut state = state.lock().unwrap();
    let asked = (format!("{path} {range}").trim_end().to_owned(), headers.contains_key("authorization"));
    if storage {
        state.stored.push(asked)
    } else {
        state.asked.push(asked)
    }
    let mut refuse = |status: &str, more: &str| {
        let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: 2\r\nConnection: close\r\n\r\nno");
        stream.write_all(head.as_bytes())
    };
    if storage && headers.contains_key("authorization") {
        return refuse("400 Bad Request", "");
    }
    if state.portal {
        return refuse("200 OK", "Content-Type: text/html\r\n");
    }
    if state.busy.0 > 0 {
        state.busy.0 -= 1;
        let code = if state.busy.1 == 403 { "X-Error-Code: GatedRepo\r\n" } else { "" };
        return refuse(&format!("{} Busy", state.busy.1), &format!("Retry-After: 0\r\n{code}"));
    }
    let commit = |state: &State, repo: &str, revision: &str| match revision {
        "main" => state.main.get(repo).cloned(),
        _ => state.files.keys().any(|key| key.0 == repo && key.1 == revision).then(|| revision.to_owned()),
    };
    let nothing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let said = match (path.as_str(), headers.get("authorization").and_then(|header| header.strip_prefix("Bearer "))) {
        ("/api/whoami-v2", token) if token.is_some() && token == state.token.as_deref() => Some(r#"{"name":"tester"}"#),
        ("/api/whoami-v2", _) => return refuse("401 Unauthorized", ""),
        ("/api/models", _) => Some("[]"),
        ("/api/models/org/polite", _) => {
            let private = state.made.first().is_some_and(|made| made["private"] == true);
            Some(if private { r#"{"private":true}"# } else { r#"{"private":false}"# })
        }
        _ => None,
    };
    if let Some(said) = said {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", said.len());
        return stream.write_all((head + said).as_bytes());
    }
    if !request.starts_with("GET ") {
        let path = match (state.moved, path.strip_prefix("/moved")) {
            (Some(status), None) => return refuse(status, &format!("Location: /moved{path}?Signature=s3cret\r\n")),
            (_, moved) => moved.unwrap_or(&path).to_owned(),
        };
        let (status, said) = upload::answer(&mut state, own, &path, &content, headers.get("authorization"));
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", said.len());
        return stream.write_all((head + &said).as_bytes());
    }
    if let Some((repo, revision)) = path.strip_prefix("/api/").and_then(|path| path.split_once("/revision/")) {
        let repo = repo.strip_prefix("models/").unwrap_or(repo);
        let Some(commit) = commit(&state, repo, revision) else { return stream.write_all(nothing.as_bytes()) };
        let names = state.files.iter().filter(|(key, _)| key.0 == repo && key.1 == commit);
        let names: Vec<Value> =
            names.map(|(key, content)| json!({ "rfilename": key.2, "size": content.len() })).collect();
        let body = json!({ "sha": commit, "siblings": names }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        return stream.write_all((head + &body).as_bytes());
    }
    let (elsewhere, path) = path.strip_prefix("/elsewhere").map_or((false, path.as_str()), |path| (true, path));
    let found = path[1..].split_once("/resolve/").and_then(|(repo, rest)| {
        let (revision, name) = rest.split_once('/')?;
        let (commit, name) = (commit(&state, repo, revision)?, name.replace("%20", " "));
        let content = state.files.get(&(repo.to_owned(), commit.clone(), name.clone()))?.clone();
        Some((commit, name, content))
    });
    let Some((commit, name, content)) = found else { return stream.write_all(nothing.as_bytes()) };
    let etag = etag(&name, &content);
    if name.ends_with(".safetensors") && !elsewhere {
        // The two forms in which hubs send elsewhere: with the size, to another host; within the host.
        let to = match &state.storage {
            Some(storage) => format!("X-Linked-Size: {}\r\nLocation: {storage}/elsewhere{path}", content.len()),
            None => format!("Location: {own}/elsewhere{path}"),
        };
        let head = format!(
            "HTTP/1.1 302 Found\r\nX-Repo-Commit: {commit}\r\nX-Linked-Etag: \"{etag}\"\r\n\
             {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return stream.write_all(head.as_bytes());
    }
    if content.is_empty() && !range.is_empty() {
        let head = format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\nX-Repo-Commit: {commit}\r\nETag: \"{etag}\"\r\n\
             Content-Range: bytes */0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return stream.write_all(head.as_bytes());
    }
    let range = if state.whole { String::new() } else { range };
    let (from, to) = range.split_once('-').unwrap_or(("0", ""));
    let size = content.len();
    let (from, to) = (from.parse::<usize>().unwrap_or(0), to.parse().map_or(size, |to: usize| to + 1));
    let mut body = content[from.min(size)..to.min(size)].to_vec();
    let fault = state.faults.get(&name).copied().filter(|_| body.len() > 1);
    let mut length = format!("Content-Length: {}\r\n", body.len());
    match fault {
        Some(Fault::Breaks) => body.truncate(body.len() / 2),
        Some(Fault::Short) => {
            body.truncate(body.len() / 2);
            length.clear();
        }
        Some(Fault::Stalls) => {
            let head = format!("HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nContent-Range: bytes {from}-");
            let head = format!("{head}{}/{size}\r\n{length}Connection: close\r\n\r\n", to.saturating_sub(1));
            stream.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat())?;
            // Until the client has had enough of it; others are served meanwhile.
            std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
            return Ok(());
        }
        Some(Fault::Other) => body.iter_mut().for_each(|byte| *byte ^= 1),
        None => {}
    }
    let (status, part) = match state.whole {
        true => ("200 OK", String::new()),
        false => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{size}\r\n", to.saturating_sub(1))),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nX-Repo-Commit: {commit}\r\nETag: \"{etag}\"\r\n\
         {part}{length}Connection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), &body].concat())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client has read everything: closing earlier would drop what is on its way.
    stream.read_to_end(&mut Vec::new()).map(drop)
}
