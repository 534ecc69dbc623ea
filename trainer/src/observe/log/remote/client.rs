//! Requests to a server, and what its answers mean.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http};

/// Longest time of a request with its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Number of attempts before a run starts, and the pause after the first; it doubles.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// Number of characters of a server's message that are shown.
const SHOWN: usize = 300;

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// Status of the answer, if there was one.
    pub(crate) status: Option<u16>,
    /// What happened, as the rest of a sentence about the server.
    pub(crate) what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The server is unreachable or busy: the same request may succeed later.
    Temporary,
    /// The server refuses this user, perhaps only until a new token is valid.
    Denied,
    /// The server refuses this request.
    Refused,
}

impl Failure {
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Refused, status: None, what: what.into() }
    }
}

/// Who a client says it is.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    Nobody,
    Token(String),
    Password { name: String, password: String },
}

impl Login {
    fn header(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Token(token) => Some(format!("Bearer {token}")),
            Self::Password { name, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))))
            }
        }
    }
}

/// Certificates that a client trusts.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Those of the authorities that browsers trust.
    Public,
    /// Those of a file in PEM format.
    File(String),
    /// Any.
    All,
}

impl Trust {
    fn config(&self) -> Result<TlsConfig, String> {
        let config = TlsConfig::builder();
        Ok(match self {
            Self::Public => config.build(),
            Self::All => config.disable_verification(true).build(),
            Self::File(path) => {
                let pem = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
                let certificate = |item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                };
                let found: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
                if found.is_empty() {
                    return Err(format!("{path}: contains no certificate in PEM format"));
                }
                config.root_certs(RootCerts::new_with_certs(&found)).build()
            }
        })
    }
}

/// A server, with what identifies this program to it.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    authorization: Option<String>,
    /// How to log in, for messages.
    hint: &'static str,
}

impl Client {
    /// Creates a client. `hint` says how to give the server another login.
    ///
    /// # Errors
    /// Returns an error if the certificates cannot be read.
    pub(crate) fn new(login: &Login, trust: &Trust, hint: &'static str) -> Result<Self, String> {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .tls_config(trust.config()?)
            .user_agent(concat!("efficienttrain/", env!("CARGO_PKG_VERSION")))
            // The answer's text says what is wrong.
            .http_status_as_error(false)
            // A redirected POST would become a GET, and what it carries would be lost.
            .max_redirects(0)
            .max_redirects_will_error(false);
        Ok(Self { agent: config.build().into(), authorization: login.header(), hint })
    }

    /// Sends a body and returns the text of the answer.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or does not accept it.
    pub(crate) fn post(&self, url: &str, kind: &str, body: &[u8]) -> Result<String, Failure> {
        let mut request = self.agent.post(url).header("Content-Type", kind);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.send(body))
    }

    /// Asks for something and returns the text of the answer.
    ///
    /// # Errors
    /// Same as [`Self::post`].
    pub(crate) fn get(&self, url: &str, key: &str, value: &str) -> Result<String, Failure> {
        let mut request = self.agent.get(url).query(key, value);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.answer(request.call())
    }

    fn answer(&self, response: Result<http::Response<Body>, ureq::Error>) -> Result<String, Failure> {
        let mut response = response.map_err(unreachable)?;
        let status = response.status();
        let location = response.headers().get("Location").and_then(|to| to.to_str().ok()).map(String::from);
        let text = response.body_mut().read_to_string();
        if status.is_success() {
            return text.map_err(unreachable);
        }
        let code = status.as_u16();
        let said = message(&text.unwrap_or_default());
        let (kind, what) = match (code, location) {
            (401 | 403, _) => {
                (FailureKind::Denied, format!("refuses access (status {code}{said}); {}", self.hint))
            }
            (300..=399, Some(to)) => {
                (FailureKind::Refused, format!("refers to another address; give that one instead: {to}"))
            }
            (408 | 425 | 429 | 500.., _) => {
                (FailureKind::Temporary, format!("does not work at the moment (status {code}{said})"))
            }
            _ => (FailureKind::Refused, format!("refuses the request (status {code}{said})")),
        };
        Err(Failure { kind, status: Some(code), what })
    }
}

/// Repeats a request a few times if it fails for a reason that may pass.
///
/// # Errors
/// Returns the error of the last attempt.
pub(crate) fn patiently<T>(mut request: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for attempt in 0..ATTEMPTS - 1 {
        match request() {
            Err(failure) if failure.kind == FailureKind::Temporary => {
                std::thread::sleep(PAUSE * 2u32.pow(attempt));
            }
            other => return other,
        }
    }
    request()
}

fn unreachable(error: ureq::Error) -> Failure {
    let kind = match &error {
        ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::BodyExceedsLimit(_) => {
            FailureKind::Refused
        }
        _ => FailureKind::Temporary,
    };
    Failure { kind, status: None, what: format!("cannot be reached ({error})") }
}

/// Returns what a server says of an error, for the end of a sentence: MLflow's message, or the
/// text.
fn message(text: &str) -> String {
    let json: Option<Value> = serde_json::from_str(text).ok();
    let said = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or(text).trim();
    // A page for browsers says nothing here.
    if said.is_empty() || said.starts_with('<') {
        return String::new();
    }
    let line: String = said.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(": {line}")
}
