//! Requests to the endpoint, and to where it sends us.
//!
//! Redirects are followed here and not by the client: the token belongs to the endpoint's origin (RFC 6454: scheme,
//! host and port) and goes nowhere else, for a storage host is told by its address what may be read, and refuses or
//! leaks a token it was never meant to see. An endpoint that asks for patience gets it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ftk_adapters::foreign;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body, Proxy, SendBody};

/// Redirects one after another, as in `curl` and browsers some twenty; hubs need two.
const REDIRECTS: usize = 10;
/// Answers that ask for patience in a row, before it is at its end.
const PATIENCE: u32 = 5;
/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Without a byte for so long, a connection is taken to be dead.
const STALL: Duration = Duration::from_secs(60);
/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(20);
/// The variable that says another number of seconds in its place, as in `huggingface_hub`.
pub(super) const TIMEOUT: &str = "HF_HUB_DOWNLOAD_TIMEOUT";
/// The same for what is announced of a file.
pub(super) const ANNOUNCED_TIMEOUT: &str = "HF_HUB_ETAG_TIMEOUT";
/// Attempts to reach a host that is there, until one is answered.
const CONNECTIONS: u32 = 3;
/// Broken connections in a row, each after less than [`PROGRESS`], that end a transfer.
const BREAKS: usize = 3;
/// Bytes that show that a connection works.
const PROGRESS: u64 = 1 << 20;
/// The status of a part that a file does not have, as every part of an empty one.
const NO_SUCH_PART: u16 = 416;
/// Most bytes of a list of files.
const LIST: u64 = 64 << 20;

/// How long a connection may be without a byte, where that is not [`STALL`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    /// Of a file's content, or of a list.
    pub(super) content: Option<Duration>,
    /// Of what is announced of a file.
    pub(super) announced: Option<Duration>,
}

/// Why there is no answer, or no good one.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is refused, with the code that hubs give as a reason.
    Status(u16, Option<String>),
    /// A variable names no proxy.
    Proxy(&'static str),
    /// No connection, or it broke; or patience is at its end.
    Transfer(String),
    /// It makes no sense.
    Answer(String),
    /// Everybody sees the repository that was to be private.
    Public,
    /// The file here cannot be written.
    Disk(std::io::Error),
    /// A file that is to be sent cannot be read.
    Unreadable(PathBuf, std::io::Error),
}

/// What is announced of a file.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) size: u64,
    /// Without quotes and without the mark of a weak one.
    pub(super) etag: String,
}

/// Sees what is waited for, and why.
pub type Tell<'a> = &'a dyn Fn(&str);

/// An endpoint with the token it is to see.
pub(super) struct Client<'a> {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
    /// Until what is announced of a file has to be there.
    announced: Duration,
    /// The variable that names the proxy, if there is one.
    proxy: Option<&'static str>,
    tell: Tell<'a>,
}

/// The variables that may name a proxy; the first that is set does.
const PROXIES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// The proxy that the environment names, with the variable. What is no proxy is not passed over: where one is wanted, a
/// connection without it is not.
fn proxy() -> Result<Option<(&'static str, Proxy)>, Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let Some((name, value)) = PROXIES.into_iter().find_map(|name| Some((name, set(name)?))) else { return Ok(None) };
    let wrong = |_| Failure::Proxy(name);
    let given = Proxy::new(value.trim()).map_err(wrong)?;
    let mut proxy = Proxy::builder(given.protocol()).host(given.host()).port(given.port());
    if let Some(user) = given.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = given.password() {
        proxy = proxy.password(password);
    }
    for host in set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default().split(',') {
        proxy = proxy.no_proxy(host.trim());
    }
    Ok(Some((name, proxy.build().map_err(wrong)?)))
}

impl<'a> Client<'a> {
    /// Of an endpoint; a connection without a byte for so long as `stall` says is taken to be dead.
    pub(super) fn new(endpoint: &str, token: Option<String>, stall: Stall, tell: Tell<'a>) -> Result<Self, Failure> {
        let content = stall.content.unwrap_or(STALL);
        let (announced, stall) = (stall.announced.unwrap_or(content), Some(content));
        let endpoint = endpoint.parse().ok().filter(|endpoint| origin(endpoint).is_some());
        let endpoint = endpoint.ok_or_else(|| Failure::Answer("no address of a web server".to_owned()))?;
        let (proxy, through) = proxy()?.unzip();
        let config = Agent::config_builder()
            .proxy(through)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(stall)
            .timeout_per_write(stall)
            .user_agent(concat!("ftk/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: Agent::new_with_config(config), endpoint, token, announced, proxy, tell })
    }

    /// The address of a path below the endpoint.
    pub(super) fn address(&self, path: &str) -> Result<Uri, Failure> {
        let text = format!("{}/{path}", self.endpoint.to_string().trim_end_matches('/'));
        text.parse().map_err(|error| Failure::Answer(format!("{error}: {}", shown(&text))))
    }

    /// The address, as an answer spells it, of a place that the endpoint sends us on to.
    pub(super) fn onward(&self, address: &str) -> Result<Uri, Failure> {
        onward(&self.endpoint, address)
    }

    /// The text at an address.
    pub(super) fn text(&self, address: &Uri) -> Result<String, Failure> {
        let mut answer = self.get(address, None)?;
        let text = answer.body_mut().with_config().limit(LIST).read_to_string();
        text.map_err(|error| Failure::Transfer(error.to_string()))
    }

    /// What is announced of the file at an address: by the endpoint, where it sends us elsewhere for the content.
    pub(super) fn announced(&self, address: &Uri) -> Result<Announced, Failure> {
        let (mut etag, mut size) = (None, None);
        let mut at = address.clone();
        for _ in 0..=REDIRECTS {
            let answer = self.hop(&at, Some("bytes=0-0"), Some(self.announced))?;
            let headers = answer.headers();
            let next = next(&at, &answer)?;
            // Where a redirect says nothing of the file, it is only another address of the same.
            let own = next.is_none().then_some("etag");
            etag = etag.or_else(|| ["x-linked-etag"].into_iter().chain(own).find_map(|name| text(headers, name)));
            size = size.or_else(|| number(headers, "x-linked-size"));
            match next {
                Some(_) if etag.is_some() && size.is_some() => break,
                Some(next) => at = next,
                None => {
                    let length = number(headers, "content-length").filter(|_| answer.status() == 200);
                    size = size.or_else(|| whole(headers)).or(length);
                    break;
                }
            }
        }
        let etag = etag.ok_or_else(|| Failure::Answer("no etag of a file".to_owned()))?;
        let size = size.ok_or_else(|| Failure::Answer("no size of a file".to_owned()))?;
        let etag = etag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        Ok(Announced { size, etag })
    }

    /// Brings the file at an address into `part`, which may hold its beginning, until it has `size` bytes or the
    /// answer ends. Tells how many are there.
    pub(super) fn download(
        &self,
        address: &Uri,
        part: &Path,
        size: u64,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        if size == 0 {
            // There is no part of it that could be asked for.
            return File::create(part).map(drop).map_err(Failure::Disk);
        }
        let mut breaks = 0;
        loop {
            let have = part.metadata().map_or(0, |part| part.len());
            report(have);
            if have == size {
                return Ok(());
            }
            let broken = match self.go_on(address, part, have, size, report) {
                Ok(()) => return Ok(()),
                Err(Failure::Transfer(reason)) => reason,
                Err(other) => return Err(other),
            };
            let reached = part.metadata().map_or(0, |part| part.len());
            breaks = if reached >= have + PROGRESS { 1 } else { breaks + 1 };
            if breaks == BREAKS {
                return Err(Failure::Transfer(broken));
            }
            (self.tell)(&format!("the connection broke, going on from byte {reached}: {broken}"));
        }
    }

    fn go_on(
        &self,
        address: &Uri,
        part: &Path,
        have: u64,
        size: u64,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut answer = self.get(address, Some(&format!("bytes={have}-")))?;
        let follows = match (answer.status().as_u16(), begin(answer.headers())) {
            (206, Some(from)) if from == have => true,
            (206 | NO_SUCH_PART, _) => {
                return Err(Failure::Answer("another part of a file than was asked for".to_owned()));
            }
            // It knows no parts: this is the whole file.
            _ => false,
        };
        let mut file = OpenOptions::new();
        let file = if follows { file.append(true) } else { file.write(true).truncate(true) };
        let mut file: File = file.create(true).open(part).map_err(Failure::Disk)?;
        let mut done = if follows { have } else { 0 };
        let mut content = answer.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        // One byte more than was announced is enough to tell that it is another file.
        while done <= size {
            match content.read(&mut buffer).map_err(|error| Failure::Transfer(error.to_string()))? {
                0 => break,
                read => {
                    file.write_all(&buffer[..read]).map_err(Failure::Disk)?;
                    done += read as u64;
                    report(done.min(size));
                }
            }
        }
        Ok(())
    }

    /// The answer at the end of all redirects.
    fn get(&self, address: &Uri, range: Option<&str>) -> Result<Response<Body>, Failure> {
        follow(address, false, &mut |at| self.hop(at, range, None))
    }

    /// One request for what is at an address.
    fn hop(&self, at: &Uri, range: Option<&str>, stall: Option<Duration>) -> Result<Response<Body>, Failure> {
        self.patiently(at, &mut || {
            let mut request = self.agent.get(at).header("Accept-Encoding", "identity");
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            if let Some(token) = self.token_for(at) {
                request = request.header("Authorization", token);
            }
            match stall {
                None => request.call(),
                Some(_) => request.config().timeout_per_read(stall).timeout_per_write(stall).build().call(),
            }
        })
    }

    /// The answer to a text that is sent to an address of the endpoint.
    pub(super) fn post(&self, at: &Uri, kind: &str, text: &str) -> Result<String, Failure> {
        let mut answer = follow(at, true, &mut |at| {
            self.patiently(at, &mut || {
                let mut request = self.agent.post(at).header("Content-Type", kind).header("Accept", kind);
                if let Some(token) = self.token_for(at) {
                    request = request.header("Authorization", token);
                }
                request.send(text)
            })
        })?;
        let text = answer.body_mut().with_config().limit(LIST).read_to_string();
        text.map_err(|error| Failure::Transfer(error.to_string()))
    }

    /// Puts a file of `size` bytes where storage was told to take it, with the headers that it asks for.
    pub(super) fn put(
        &self,
        at: &Uri,
        headers: &[(String, String)],
        file: &Path,
        size: u64,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut source = foreign::open(file).map_err(|error| Failure::Unreadable(file.to_owned(), error))?;
        let first = at;
        let answer = follow(first, true, &mut |at| {
            self.patiently(at, &mut || {
                let mut request = self.agent.put(at).header("Content-Length", size.to_string());
                let secret = |name: &str| ["authorization", "cookie"].contains(&name.to_ascii_lowercase().as_str());
                for (name, value) in headers.iter().filter(|(name, _)| origin(at) == origin(first) || !secret(name)) {
                    request = request.header(name, value);
                }
                if let Some(token) = self.token_for(at) {
                    request = request.header("Authorization", token);
                }
                source.rewind().map_err(ureq::Error::Io)?;
                let content = (&source).take(size);
                request.send(SendBody::from_reader(&mut Counted { content, done: 0, report: &mut *report }))
            })
        })?;
        match answer.status().as_u16() {
            200..300 => Ok(()),
            other => Err(Failure::Answer(format!("status {other} for a file that was sent"))),
        }
    }

    /// The token, as it is sent to its own origin and to no other.
    fn token_for(&self, at: &Uri) -> Option<String> {
        let token = self.token.as_ref().filter(|_| origin(at) == origin(&self.endpoint))?;
        Some(format!("Bearer {token}"))
    }

    /// One request, repeated while there is no answer from a host that has a name, or one that asks for patience.
    fn patiently(
        &self,
        at: &Uri,
        request: &mut dyn FnMut() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let (mut tried, mut unanswered) = (0, 0);
        let host = at.host().unwrap_or_default();
        let through = self.proxy.map(|name| format!(", through the proxy that {name} names")).unwrap_or_default();
        loop {
            let answer = match request() {
                Ok(answer) => answer,
                // Nobody is there to wait for.
                Err(error @ ureq::Error::HostNotFound) => return Err(Failure::Transfer(format!("{error}{through}"))),
                Err(error) => {
                    unanswered += 1;
                    if unanswered == CONNECTIONS {
                        return Err(Failure::Transfer(format!("{error}, {CONNECTIONS} times{through}")));
                    }
                    (self.tell)(&format!("no answer from {host}, trying again in {unanswered} s: {error}"));
                    std::thread::sleep(Duration::from_secs(u64::from(unanswered)));
                    continue;
                }
            };
            let status = answer.status().as_u16();
            match status {
                429 | 500 | 502 | 503 | 504 if tried + 1 < PATIENCE => {
                    let asked = wait(answer.headers());
                    let pause = asked.unwrap_or(Duration::from_secs(1 << tried));
                    if pause > LONGEST_WAIT {
                        let seconds = pause.as_secs();
                        return Err(Failure::Transfer(format!("status {status}, to be tried again in {seconds} s")));
                    }
                    (self.tell)(&format!("{host} is busy (status {status}), trying again in {} s", pause.as_secs()));
                    std::thread::sleep(pause);
                    tried += 1;
                }
                429 | 500..=599 => return Err(Failure::Transfer(format!("status {status}, {} times", tried + 1))),
                NO_SUCH_PART => return Ok(answer),
                400.. => return Err(Failure::Status(status, text(answer.headers(), "x-error-code"))),
                _ => return Ok(answer),
            }
        }
    }
}

/// The answer at the end of all redirects. What is sent goes along where a redirect says so (RFC 9110, 15.4.8 and
/// 15.4.9); by the others it would become a question without it.
fn follow(
    address: &Uri,
    sends: bool,
    ask: &mut dyn FnMut(&Uri) -> Result<Response<Body>, Failure>,
) -> Result<Response<Body>, Failure> {
    let mut at = address.clone();
    for _ in 0..=REDIRECTS {
        let answer = ask(&at)?;
        let Some(next) = next(&at, &answer)? else { return Ok(answer) };
        let status = answer.status().as_u16();
        if sends && !matches!(status, 307 | 308) {
            let to = shown(&next.to_string());
            return Err(Failure::Answer(format!("redirects what is sent by status {status}, which drops it: {to}")));
        }
        at = next;
    }
    Err(Failure::Answer(format!("more than {REDIRECTS} redirects from {}", shown(&address.to_string()))))
}

/// Where an answer sends us.
fn next(at: &Uri, answer: &Response<Body>) -> Result<Option<Uri>, Failure> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = text(answer.headers(), "location");
    let location = location.ok_or_else(|| Failure::Answer("a redirect to nowhere".to_owned()))?;
    onward(at, &location).map(Some)
}

/// The address that an answer from `at` sends us on to: one of a web server, and of https where `at` is.
fn onward(at: &Uri, location: &str) -> Result<Uri, Failure> {
    let next = join(at, location).filter(|next| origin(next).is_some());
    let next = next.ok_or_else(|| Failure::Answer(format!("sends us to no web server: {}", shown(location))))?;
    if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        return Err(Failure::Answer(format!("sends us away from https: {}", shown(&next.to_string()))));
    }
    Ok(next)
}

/// An address as messages have it. Whoever reads a signed query may do what it was signed for, so that it is left out, as
/// are a user's name and password.
fn shown(address: &str) -> String {
    let place = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = place.split_once("//") else { return place.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}//{host}{path}")
}

/// What is sent, counted as it goes.
struct Counted<'r, R> {
    content: R,
    done: u64,
    report: &'r mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.done += read as u64;
        (self.report)(self.done);
        Ok(read)
    }
}

/// Scheme, host and port of a web server's address.
fn origin(address: &Uri) -> Option<(&str, String, u16)> {
    let scheme = address.scheme_str()?;
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((scheme, address.host()?.to_ascii_lowercase(), address.port_u16().unwrap_or(usual)))
}

/// The address that a redirect names, which may leave out what stays the same (RFC 3986, 5.2, without dots).
fn join(at: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, host) = (at.scheme_str()?, at.authority()?);
    let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let text = match location {
        whole if whole.split(['/', '?']).next().is_some_and(|first| first.contains(':')) => whole.to_owned(),
        other if other.starts_with("//") => format!("{scheme}:{other}"),
        path if path.starts_with('/') => format!("{scheme}://{host}{path}"),
        query if query.starts_with('?') => format!("{scheme}://{host}{}{query}", at.path()),
        name => format!("{scheme}://{host}{folder}/{name}"),
    };
    text.parse().ok()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// The first byte of `bytes 5-9/10` (RFC 9110, 14.4).
fn begin(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-range")?.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The size of the whole in `bytes 5-9/10`, or in `bytes */0` of a file that has no parts.
fn whole(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?.1.trim().parse().ok()
}

/// How long an answer asks to wait: seconds, or until a moment (RFC 9110, 10.2.3), which is counted from the answer's
/// own date where it has one.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let asked = text(headers, "retry-after")?;
    if let Ok(seconds) = asked.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = |text: String| httpdate::parse_http_date(&text).ok();
    let now = text(headers, "date").and_then(moment).unwrap_or_else(SystemTime::now);
    Some(moment(asked)?.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_wait_is_seconds_or_until_a_moment() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(wait(&headers(&[("retry-after", " 7")])), Some(Duration::from_secs(7)));
        assert_eq!(wait(&headers(&[date, later])), Some(Duration::from_secs(30)));
        assert_eq!(wait(&headers(&[("date", later.1), ("retry-after", date.1)])), Some(Duration::ZERO));
        assert_eq!(wait(&headers(&[("retry-after", "soon")])), None);
        assert_eq!(wait(&headers(&[date])), None);
    }

    #[test]
    fn a_part_of_a_file_says_where_it_begins_and_how_large_the_whole_is() {
        let of = |range| {
            let headers = headers(&[("content-range", range)]);
            (begin(&headers), whole(&headers))
        };
        assert_eq!(of("bytes 5-9/10"), (Some(5), Some(10)));
        assert_eq!(of("bytes */0"), (None, Some(0)));
        assert_eq!(of("bytes 5-9/*"), (Some(5), None));
        assert_eq!(of("lines 5-9/10"), (None, None));
    }

    #[test]
    fn a_redirect_is_followed_unless_it_leaves_https() {
        let next = |at: &str, location: &str| {
            let mut answer = Response::builder().status(302);
            answer.headers_mut().unwrap().insert("location", location.parse().unwrap());
            let answer = answer.body(Body::builder().data("")).unwrap();
            super::next(&at.parse().unwrap(), &answer).map(|next| next.unwrap().to_string())
        };
        assert_eq!(next("https://hub/a/b", "/c").unwrap(), "https://hub/c");
        assert_eq!(next("https://hub/a/b", "c?d=1").unwrap(), "https://hub/a/c?d=1");
        assert_eq!(next("https://hub/a/b", "//store/c").unwrap(), "https://store/c");
        assert_eq!(next("http://hub/a/b", "http://store/c").unwrap(), "http://store/c");
        for location in ["http://hub/c", "file:///etc/passwd", "ftp://hub/c", "data:,a"] {
            assert!(matches!(next("https://hub/a", location), Err(Failure::Answer(_))), "{location}");
        }
        let client = Client::new("https://hub/mirror", None, Stall::default(), &|_| ()).unwrap();
        assert_eq!(client.address("api/models/a/b").unwrap(), "https://hub/mirror/api/models/a/b");
        for endpoint in ["hub", "ftp://hub", "", "https://"] {
            assert!(
                matches!(Client::new(endpoint, None, Stall::default(), &|_| ()), Err(Failure::Answer(_))),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn signatures_and_passwords_of_addresses_are_not_shown() {
        let said = |location: &str| match onward(&Uri::from_static("https://hub/a"), location) {
            Err(Failure::Answer(reason)) => reason,
            other => panic!("{other:?}"),
        };
        for (location, reason) in [
            (
                "http://key:s3cret@store:80/c/d?X-Amz-Signature=s3cret#s3cret",
                "sends us away from https: http://store:80/c/d",
            ),
            ("ftp://key:s3cret@store?Signature=s3cret", "sends us to no web server: ftp://store"),
            ("https://store/a b?Signature=s3cret", "sends us to no web server: https://store/a b"),
            ("https://key:s3c@ret@?s3cret", "sends us to no web server: https://"),
        ] {
            assert_eq!(said(location), reason);
        }
        assert_eq!(shown("https://store/a@b?c"), "https://store/a@b");
        assert_eq!(shown("/a?c"), "/a");
    }

    #[test]
    fn what_is_sent_goes_along_with_redirects_that_keep_it_alone() {
        let along = |status: u16| {
            let mut seen = Vec::new();
            let end = follow(&Uri::from_static("https://hub/a"), true, &mut |at| {
                seen.push(at.to_string());
                let moved = at.path() == "/a";
                let mut answer = Response::builder().status(if moved { status } else { 200 });
                answer.headers_mut().unwrap().insert("location", "/b?s3cret".parse().unwrap());
                Ok(answer.body(Body::builder().data("")).unwrap())
            });
            (seen.len(), end.map(|answer| answer.status().as_u16()))
        };
        for status in [307, 308] {
            assert!(matches!(along(status), (2, Ok(200))), "{status}");
        }
        for status in [301, 302, 303] {
            let (1, Err(Failure::Answer(reason))) = along(status) else { panic!("{status}") };
            assert_eq!(reason, format!("redirects what is sent by status {status}, which drops it: https://hub/b"));
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &'static str, b: &'static str| {
            origin(&Uri::from_static(a)).unwrap() == origin(&Uri::from_static(b)).unwrap()
        };
        assert!(same("https://Hub/a", "https://hub:443/b?c"));
        for other in ["http://hub:443/a", "https://hub:444/a", "https://cdn.hub/a", "https://hub.example/a"] {
            assert!(!same("https://hub/a", other), "{other}");
        }
    }
}
