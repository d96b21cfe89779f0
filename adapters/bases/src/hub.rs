//! The Hugging Face Hub: files of models and data sets, from the cache that other tools share, or from the endpoint.
//!
//! The cache has the layout of `huggingface_hub` ("Understand caching" in its documentation): `blobs/` named by
//! etag, `snapshots/<commit>/` of links to them, `refs/<revision>` naming a commit, and `.no_exist/<commit>/` for
//! files a commit does not have. A file enters it only when it is whole and its digest is the announced one; until
//! then it is in `.partial/` beside them, where a later attempt goes on. A revision's name is written last, so
//! that a pull that failed leaves the cache as it was for everybody else.

mod cache;
mod error;
mod http;
mod push;
mod wanted;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ftk_adapters::foreign;
use hf_hub::{Repo, RepoType};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use serde::Deserialize;

use self::cache::{Look, RepoFolder, is_rows, parents, write};
pub use self::error::HubError;
pub use self::http::Tell;
use self::http::{ANNOUNCED_TIMEOUT, Client, Failure, Stall, TIMEOUT};
use self::push::Errand;
pub use self::push::{Push, Pushed};
use self::wanted::{CONFIG, ROWS, is_commit};
pub use self::wanted::{Pulled, RepoKind, Wanted};
use super::folder::{SHARDS, TEXT_FILES, WEIGHTS, shards};
use super::hub_name::{HubName, is_inside};

const ENDPOINT: &str = "https://huggingface.co";
/// Attempts to fetch a file that turns out to be another one than was announced.
const ATTEMPTS: usize = 2;

/// Sees a file's name, the bytes that are there, and their number in the end.
pub type OnProgress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// An endpoint and the cache of what came from it.
#[derive(Debug)]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
    /// How long a connection may be silent.
    stall: Stall,
}

impl Hub {
    /// As the environment says: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_DOWNLOAD_TIMEOUT`, `HF_HUB_ETAG_TIMEOUT` and `HF_HUB_OFFLINE`, and the older
    /// `HUGGINGFACE_HUB_CACHE`, `HUGGING_FACE_HUB_TOKEN` and `TRANSFORMERS_OFFLINE`, which mean what they mean to
    /// `huggingface_hub`. With `offline` it never connects.
    ///
    /// # Errors
    /// [`HubError::NoHome`]; [`HubError::Variable`]; [`HubError::Seconds`].
    pub fn from_env(offline: bool) -> Result<Self, HubError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = |name: &'static str| set(name).map(|text| expanded(name, &text, &set)).transpose();
        let caches = match path("XDG_CACHE_HOME")? {
            Some(caches) => Some(caches),
            None => std::env::home_dir().map(|home| home.join(".cache")),
        };
        let home = path("HF_HOME")?.or_else(|| Some(caches?.join("huggingface")));
        let cache = match path("HF_HUB_CACHE")? {
            Some(cache) => Some(cache),
            None => path("HUGGINGFACE_HUB_CACHE")?.or_else(|| Some(home.as_ref()?.join("hub"))),
        };
        let token_file = path("HF_TOKEN_PATH")?.or_else(|| Some(home?.join("token")));
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| foreign::read_text(&token_file?, foreign::DOCUMENT).ok());
        // Nobody asks for a token here, so that each is sent without being asked for.
        let implicit = !set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_on(&value));
        let token = token.map(|token| token.trim().to_owned()).filter(|token| implicit && !token.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        // Errors and reports name it.
        let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
        if host.split('/').next().is_some_and(|host| host.contains('@')) {
            return Err(HubError::Credentials);
        }
        let offline = offline
            || ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .iter()
                .find_map(|&name| set(name))
                .is_some_and(|value| is_on(&value));
        // Links are relative to each other, so the folder must not be.
        let cache = std::path::absolute(cache.ok_or(HubError::NoHome)?).map_err(|_| HubError::NoHome)?;
        let seconds = |name: &'static str| match set(name).map(|text| (text.trim().parse(), text)) {
            None => Ok(None),
            Some((Ok(seconds @ 1..), _)) => Ok(Some(Duration::from_secs(seconds))),
            Some((_, value)) => Err(HubError::Seconds { name, value }),
        };
        let stall = Stall { content: seconds(TIMEOUT)?, announced: seconds(ANNOUNCED_TIMEOUT)? };
        Ok(Self { cache, endpoint, token, offline, stall })
    }

    /// The folder of the cache, which need not be there yet.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The address of the endpoint.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether no connection is made.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Asks the endpoint for a sign of life: whose token it is that the environment has, `None` where it has none.
    ///
    /// # Errors
    /// [`HubError::Transfer`] where nobody answers, [`HubError::Answer`] where that is no hub, [`HubError::Token`].
    ///
    /// # Panics
    /// If it is offline.
    pub fn greet(&self, tell: Tell<'_>) -> Result<Option<String>, HubError> {
        assert!(!self.offline, "offline means no connection");
        let path = if self.token.is_some() { "api/whoami-v2" } else { "api/models?limit=1" };
        let answer = Client::new(&self.endpoint, self.token.clone(), self.stall, tell)
            .and_then(|client| client.text(&client.address(path)?))
            .map_err(|failure| match failure {
                Failure::Status(status @ (401 | 403), _) => HubError::Token { endpoint: self.endpoint.clone(), status },
                failure => failed(self, self.endpoint.clone(), &self.cache, failure),
            })?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let unlike = || HubError::Answer { endpoint: self.endpoint.clone(), reason: "not JSON of a hub".to_owned() };
        match &self.token {
            Some(_) => Ok(Some(answer["name"].as_str().ok_or_else(unlike)?.to_owned())),
            None => answer.is_array().then_some(None).ok_or_else(unlike),
        }
    }

    /// Makes the repository if it is not there, and commits the files to its `main`. `report` sees what is on its way,
    /// `tell` what is waited for. The repository is as it was until all of it has arrived.
    ///
    /// # Errors
    /// [`HubError::NoToken`], [`HubError::Token`], [`HubError::ReadOnly`]; whatever keeps the files from arriving.
    ///
    /// # Panics
    /// If it is offline.
    pub fn push(&self, push: &Push<'_>, report: OnProgress<'_>, tell: Tell<'_>) -> Result<Pushed, HubError> {
        assert!(!self.offline, "offline means no connection");
        if self.token.is_none() {
            return Err(HubError::NoToken { endpoint: self.endpoint.clone() });
        }
        let wrong = |failure| match failure {
            Failure::Status(status @ 401, _) => HubError::Token { endpoint: self.endpoint.clone(), status },
            Failure::Status(status @ 403, _) => HubError::ReadOnly { name: push.id.to_owned(), status },
            failure => failed(self, push.id.to_owned(), &self.cache, failure),
        };
        let client = Client::new(&self.endpoint, self.token.clone(), self.stall, tell).map_err(wrong)?;
        Errand { client, push }.run(report).map_err(wrong)
    }

    /// The wanted files: from the cache where they are, from the endpoint where they are not. With `refresh`, the
    /// endpoint is asked what the revision means now, unless that is a commit, which never changes. `report` sees what
    /// has arrived, `tell` what is waited for.
    ///
    /// # Errors
    /// See [`HubError`]. What is in the cache stays as it was.
    pub fn pull(
        &self,
        (kind, name): (RepoKind, &HubName),
        wanted: Wanted<'_>,
        refresh: bool,
        report: OnProgress<'_>,
        tell: Tell<'_>,
    ) -> Result<Pulled, HubError> {
        let place = RepoFolder::new(&self.cache, kind, &name.id);
        let revision = name.revision.as_deref().unwrap_or("main");
        let pinned = is_commit(revision);
        let known = if pinned { Some(revision.to_owned()) } else { place.commit(revision) };
        let found = known.map(|commit| (place.look(&commit, wanted), commit));
        match found {
            Some((Look::Complete(files), commit)) if self.offline || pinned || !refresh => {
                return Ok(place.pulled(commit, files));
            }
            // There may be more, but nothing could be added to a cache that others keep.
            Some((Look::Unsure(files), commit)) if self.offline || (!refresh && !place.is_writable()) => {
                return Ok(place.pulled(commit, files));
            }
            found if self.offline => {
                let file = match found {
                    Some((Look::Missing(file), _)) => file,
                    _ => wanted.first().to_owned(),
                };
                let (name, dataset) = (name.to_string(), kind == RepoKind::Dataset);
                return Err(HubError::Offline { name, file, dataset, cache: self.cache.clone() });
            }
            _ => {}
        }
        Remote::new(self, place, kind, name, tell)?.pull(revision, wanted, report)
    }
}

/// A path with `~`, `$NAME` and `${NAME}` put in: files of settings and containers hand them over as they are.
fn expanded(name: &'static str, text: &str, set: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, HubError> {
    let unknown = |what: &str| HubError::Variable { name, value: text.to_owned(), what: what.to_owned() };
    let (mut path, mut rest) = (String::new(), text.trim());
    if let Some(after) = rest.strip_prefix('~') {
        // Another user's home folder is in no variable.
        let home = std::env::home_dir().filter(|_| after.is_empty() || after.starts_with('/'));
        path = home.and_then(|home| home.into_os_string().into_string().ok()).ok_or_else(|| unknown("~"))?;
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        path.push_str(before);
        let end = |text: &str| text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (variable, after) = match after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            Some(found) => found,
            None => after.split_at(end(after)),
        };
        path.push_str(&set(variable).ok_or_else(|| unknown(&format!("${variable}")))?);
        rest = after;
    }
    Ok(PathBuf::from(path + rest))
}

/// Whether a value of an environment variable means yes, as `huggingface_hub` reads it.
fn is_on(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.trim().to_ascii_lowercase().as_str())
}

/// What a commit holds, as the endpoint lists it.
#[derive(Deserialize)]
struct Listed {
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file of a commit.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    /// Bytes, where the endpoint says so.
    size: Option<u64>,
}

/// A repository at the endpoint, locked for other pulls on this machine.
struct Remote<'a> {
    hub: &'a Hub,
    place: RepoFolder,
    client: Client<'a>,
    kind: RepoType,
    name: &'a HubName,
    _lock: File,
}

impl<'a> Remote<'a> {
    fn new(
        hub: &'a Hub,
        place: RepoFolder,
        kind: RepoKind,
        name: &'a HubName,
        tell: Tell<'a>,
    ) -> Result<Self, HubError> {
        assert!(!hub.offline, "offline means no connection");
        let path = place.lock.join("ftk.lock");
        parents(&path)?;
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        let lock = lock.map_err(|source| HubError::Cache { path, source })?;
        let client = Client::new(&hub.endpoint, hub.token.clone(), hub.stall, tell);
        let client = client.map_err(|failure| failed(hub, name.to_string(), &place.folder, failure))?;
        let kind = match kind {
            RepoKind::Model => RepoType::Model,
            RepoKind::Dataset => RepoType::Dataset,
        };
        Ok(Self { hub, place, client, kind, name, _lock: lock })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.id.clone(), self.kind, revision.to_owned())
    }

    fn failed(&self, what: String, failure: Failure) -> HubError {
        failed(self.hub, what, &self.place.folder, failure)
    }

    /// The same, or where there is a repository of this name and the other kind, that.
    fn of_another_kind(&self, revision: &str, error: HubError) -> HubError {
        // Where nobody says who asks, hubs do not tell what is private from what is not there.
        if !matches!(error, HubError::Unknown { status: 401 | 404, .. }) {
            return error;
        }
        let dataset = matches!(self.kind, RepoType::Model);
        let kind = if dataset { RepoType::Dataset } else { RepoType::Model };
        let other = Repo::with_revision(self.name.id.clone(), kind, revision.to_owned());
        let listed = self.client.address(&format!("api/{}", other.api_url())).and_then(|at| self.client.text(&at));
        match listed.is_ok_and(|text| serde_json::from_str::<Listed>(&text).is_ok()) {
            true => HubError::OtherKind { name: self.name.to_string(), dataset },
            false => error,
        }
    }

    fn answer(&self, reason: String) -> HubError {
        HubError::Answer { endpoint: self.hub.endpoint.clone(), reason }
    }

    /// What a revision holds.
    fn list(&self, revision: &str) -> Result<Listed, HubError> {
        let failed = |failure| self.failed(self.name.to_string(), failure);
        // With the sizes of its files.
        let path = format!("api/{}?blobs=true", self.repo(revision).api_url());
        let text = self.client.text(&self.client.address(&path).map_err(failed)?).map_err(failed)?;
        serde_json::from_str(&text).map_err(|error| self.answer(format!("no list of files: {error}")))
    }

    fn pull(&self, revision: &str, wanted: Wanted<'_>, report: OnProgress<'_>) -> Result<Pulled, HubError> {
        let info = self.list(revision).map_err(|error| self.of_another_kind(revision, error))?;
        let commit = info.sha.to_ascii_lowercase();
        if !is_commit(&commit) {
            return Err(self.answer(format!("no commit: {}", info.sha)));
        }
        // From here on the commit is asked for: the revision may move meanwhile.
        let mut files = self.select(&info, wanted)?;
        for file in &files {
            self.fetch(&info, &commit, file, report)?;
        }
        if files.iter().any(|file| file == SHARDS) {
            let index = shards(&self.place.snapshot(&commit)).map_err(|error| self.answer(error.to_string()))?;
            for shard in index {
                self.offered(&info, &shard)?;
                self.fetch(&info, &commit, &shard, report)?;
                files.push(shard);
            }
        }
        if matches!(wanted, Wanted::Model | Wanted::Skeleton) {
            for file in TEXT_FILES.iter().filter(|file| !offers(&info, file)) {
                write(&self.place.absence(&commit, file), b"")?;
            }
        }
        if revision != commit {
            write(&self.place.folder.join("refs").join(revision), commit.as_bytes())?;
        }
        // Everything is in; what is left there is of other commits.
        let _ = std::fs::remove_dir_all(self.place.partial());
        Ok(self.place.pulled(commit, files))
    }

    /// The wanted files that the repository has; of weights in shards, the index.
    fn select(&self, info: &Listed, wanted: Wanted<'_>) -> Result<Vec<String>, HubError> {
        let owned = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>();
        let all = info.siblings.iter().map(|file| &file.rfilename);
        let files = match wanted {
            Wanted::Files(files) => files.to_vec(),
            Wanted::Rows => all.filter(|file| is_rows(file)).cloned().collect(),
            Wanted::Model | Wanted::Skeleton => {
                let texts = TEXT_FILES.iter().copied().filter(|file| offers(info, file)).collect::<Vec<_>>();
                let weights = [WEIGHTS, SHARDS].into_iter().find(|file| offers(info, file));
                if wanted == Wanted::Model && weights.is_none() {
                    let gguf = all.filter(|file| file.ends_with(".gguf")).cloned().collect();
                    return Err(HubError::NoWeights { name: self.name.to_string(), gguf });
                }
                let weights = weights.filter(|_| wanted == Wanted::Model);
                owned(&[&[CONFIG], &texts[..], weights.as_slice()].concat())
            }
        };
        if files.is_empty() {
            let file = ROWS.map(|ending| format!("*{ending}")).join(", ");
            return Err(HubError::NoFile { name: self.name.to_string(), file });
        }
        files.iter().try_for_each(|file| self.offered(info, file))?;
        Ok(files)
    }

    fn offered(&self, info: &Listed, file: &str) -> Result<(), HubError> {
        if !is_inside(file) {
            return Err(self.answer(format!("no plain file name: {file:?}")));
        }
        match offers(info, file) {
            true => Ok(()),
            false => Err(HubError::NoFile { name: self.name.to_string(), file: file.to_owned() }),
        }
    }

    /// Brings a file of a commit into the cache, if it is not there or is shorter or longer than the list says.
    fn fetch(&self, info: &Listed, commit: &str, file: &str, report: OnProgress<'_>) -> Result<(), HubError> {
        let listed = info.siblings.iter().find(|sibling| sibling.rfilename == file).and_then(|sibling| sibling.size);
        let there = self.place.snapshot(commit).join(file).metadata().ok().filter(std::fs::Metadata::is_file);
        if there.is_some_and(|there| listed.is_none_or(|size| there.len() == size)) {
            return Ok(());
        }
        let what = format!("{}/{file}", HubName { file: None, ..self.name.clone() });
        let failed = |failure| self.failed(what.clone(), failure);
        let path = format!("{}/resolve/{commit}/{}", self.repo(commit).url(), encoded(file));
        let address = self.client.address(&path).map_err(failed)?;
        let http::Announced { size, etag } = self.client.announced(&address).map_err(failed)?;
        // It becomes a file's name.
        if !is_inside(&etag) || etag.contains('/') || etag.starts_with('.') {
            return Err(self.answer(format!("no plain etag: {etag:?}")));
        }
        let blob = self.place.folder.join("blobs").join(&etag);
        if blob.metadata().is_ok_and(|blob| blob.len() == size) {
            return self.place.link(commit, file, &etag);
        }
        let part = self.place.partial().join(format!("{etag}.part"));
        parents(&part)?;
        let disk = |source| HubError::Cache { path: part.clone(), source };
        // Nothing could follow what is whole already; it was never checked.
        if part.metadata().is_ok_and(|part| part.len() >= size) {
            std::fs::remove_file(&part).map_err(disk)?;
        }
        let mut wrong = String::new();
        for _ in 0..ATTEMPTS {
            let downloaded = self.client.download(&address, &part, size, &mut |done| report(file, done, size));
            downloaded.map_err(|failure| match failure {
                Failure::Disk(source) => disk(source),
                other => failed(other),
            })?;
            match check(&part, size, &etag).map_err(disk)? {
                None => return self.place.store(commit, file, &etag, &part),
                Some(reason) => wrong = reason,
            }
            std::fs::remove_file(&part).map_err(disk)?;
        }
        Err(HubError::Damaged { what, reason: wrong })
    }
}

/// What a failed request means for what was asked for.
fn failed(hub: &Hub, what: String, folder: &Path, failure: Failure) -> HubError {
    let endpoint = hub.endpoint.clone();
    match failure {
        Failure::Status(status @ (401 | 403 | 404), code) => {
            HubError::Unknown { name: what, endpoint, status, code: code.unwrap_or_default() }
        }
        Failure::Status(status, _) => HubError::Transfer { what, reason: format!("status {status}") },
        Failure::Proxy(name) => HubError::Proxy { name },
        Failure::Transfer(reason) => HubError::Transfer { what, reason },
        Failure::Answer(reason) => HubError::Answer { endpoint, reason },
        Failure::Public => HubError::Public { name: what },
        Failure::Disk(source) => HubError::Cache { path: folder.to_owned(), source },
        Failure::Unreadable(path, source) => HubError::Unreadable { path, source },
    }
}

fn offers(info: &Listed, file: &str) -> bool {
    info.siblings.iter().any(|sibling| sibling.rfilename == file)
}

/// A file's path as part of an address (RFC 3986).
fn encoded(file: &str) -> String {
    let mut text = String::new();
    for byte in file.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What is wrong with a file of which size and etag were announced. The etag of a large file is its SHA-256, that of
/// another the id git gives it: the SHA-1 of `blob <size>\0` and the content.
fn check(path: &Path, size: u64, etag: &str) -> std::io::Result<Option<String>> {
    let mut file = foreign::open(path)?;
    let found = file.metadata()?.len();
    if found != size {
        return Ok(Some(format!("{size} bytes were announced, there are {found}")));
    }
    let (name, mut digest) = match etag.len() {
        64 if is_hex(etag) => ("SHA-256", Context::new(&SHA256)),
        40 if is_hex(etag) => {
            let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            digest.update(format!("blob {size}\0").as_bytes());
            ("git id", digest)
        }
        _ => return Ok(None),
    };
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    let found: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let same = found == etag.to_ascii_lowercase();
    Ok((!same).then(|| format!("{name} {etag} was announced, it has {found}")))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_held_against_the_digest_their_etag_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object` and `sha256sum` of the same.
        let (git, sha) = (
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        );
        for etag in [git, sha, "an-etag-of-another-kind"] {
            assert_eq!(check(&path, 6, etag).unwrap(), None);
            assert_eq!(check(&path, 7, etag).unwrap().unwrap(), "7 bytes were announced, there are 6");
        }
        std::fs::write(&path, "hullo\n").unwrap();
        for (name, etag) in [("git id", git), ("SHA-256", sha)] {
            let reason = check(&path, 6, etag).unwrap().unwrap();
            assert!(reason.starts_with(&format!("{name} {etag} was announced, it has ")), "{reason}");
        }
    }

    #[test]
    fn paths_of_the_environment_are_what_a_shell_makes_of_them() {
        let set = |name: &str| (name == "DATA_1").then(|| "/data".to_owned());
        let path = |text: &str| expanded("HF_HOME", text, &set).map_err(|error| error.to_string());
        let home = std::env::home_dir().unwrap();
        assert_eq!(path("~").unwrap(), home);
        assert_eq!(path("~/a~").unwrap(), home.join("a~"));
        for text in ["$DATA_1/hub", "${DATA_1}/hub", " /data/hub"] {
            assert_eq!(path(text).unwrap(), Path::new("/data/hub"), "{text}");
        }
        assert_eq!(path("$DATA_1.old").unwrap(), Path::new("/data.old"));
        assert_eq!(path("~ann/hub").unwrap_err(), "HF_HOME: unknown here: ~: ~ann/hub");
        assert_eq!(path("/a/$NONE/b").unwrap_err(), "HF_HOME: unknown here: $NONE: /a/$NONE/b");
    }

    #[test]
    fn words_for_yes_are_those_of_other_tools() {
        assert!(["1", "true", "YES", "On", " on "].into_iter().all(is_on));
        assert!(!["0", "false", "no", "off", "2", ""].into_iter().any(is_on));
    }

    #[test]
    fn names_of_files_become_addresses() {
        assert_eq!(encoded("data/a b#1?.jsonl"), "data/a%20b%231%3F.jsonl");
    }
}
