//! The lines of `log.jsonl`, sent to a URL.

use crate::config::options::check_url;
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::observe::log::json::JsonLines;
use crate::observe::log::remote::client::{Client, Failure, Login, Trust, patiently};
use crate::observe::log::remote::sender::{Destination, Ending, Limits, Sender};
use crate::observe::log::remote::variable;

/// Variable with the bearer token.
const TOKEN: &str = "EFFICIENTTRAIN_LOG_TOKEN";

/// Sends events as JSON lines, several in a request. The first one, the start of the run, must
/// arrive before the run trains.
#[derive(Debug)]
pub(crate) struct WebhookLog {
    lines: JsonLines,
    /// None before the start of the run.
    sender: Option<Sender<Vec<u8>>>,
    server: Option<Webhook>,
}

impl WebhookLog {
    /// Prepares a log for an address.
    ///
    /// # Errors
    /// Returns an error if it is not one of HTTP.
    pub(crate) fn open(url: &str) -> Result<Self, String> {
        check_url(url)?;
        let login = variable(TOKEN).map_or(Login::Nobody, Login::Token);
        let client = Client::new(&login, &Trust::Public, "set its bearer token in EFFICIENTTRAIN_LOG_TOKEN")?;
        let server = Webhook { client, url: url.into() };
        Ok(Self { lines: JsonLines::default(), sender: None, server: Some(server) })
    }

    fn begin(&mut self, line: Vec<u8>) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let lines = [line];
        let refused = |failure: Failure| format!("{} {}", server.name(), failure.what);
        let sent = patiently(|| server.post(&lines)).map_err(refused);
        sent.map_err(|what| Error::config("log-url", what))?;
        self.sender = Some(Sender::start(server, Limits::default())?);
        Ok(())
    }
}

impl Observer for WebhookLog {
    fn observe(&mut self, event: &Event) -> Result<()> {
        let line = self.lines.line(event).map_err(|e| Error::config("log-url", e.to_string()))?;
        let Some(line) = line else { return Ok(()) };
        match &mut self.sender {
            None => self.begin(line)?,
            Some(sender) => sender.push(line),
        }
        if let (Event::End { .. }, Some(sender)) = (event, &mut self.sender) {
            // The line of the event says how the run ended.
            sender.close(Ending::Finished);
        }
        Ok(())
    }

    fn notices(&mut self) -> Vec<String> {
        self.sender.as_ref().map_or_else(Vec::new, Sender::take_notices)
    }
}

#[derive(Debug)]
struct Webhook {
    client: Client,
    url: String,
}

impl Webhook {
    fn post(&self, lines: &[Vec<u8>]) -> Result<(), Failure> {
        self.client.post(&self.url, "application/x-ndjson", &lines.concat()).map(|_| ())
    }
}

impl Destination for Webhook {
    type Record = Vec<u8>;

    /// The path may contain a secret.
    fn name(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or_default())
    }

    fn send(&mut self, lines: &[Vec<u8>]) -> Result<(), Failure> {
        self.post(lines)
    }

    fn end(&mut self, _: Ending) -> Result<(), Failure> {
        Ok(())
    }
}
