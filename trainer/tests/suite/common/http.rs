//! HTTP server on this machine for tests of what the program sends.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

/// A request. Names of headers are in lower case.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    Answer(u16, String),
    /// Refers to another address.
    Moved(String),
    /// Closes the connection without an answer.
    Drop,
    /// The same, and takes no further connections.
    Die,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Answer(200, value.to_string())
    }
}

/// Starts a server and returns its address.
pub(crate) fn serve(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let (handler, dead) = (Arc::new(handler), Arc::new(AtomicBool::new(false)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if dead.load(Ordering::SeqCst) {
                return;
            }
            let (handler, dead) = (handler.clone(), dead.clone());
            std::thread::spawn(move || {
                while !dead.load(Ordering::SeqCst) && answer(&stream, &*handler, &dead).unwrap_or(false) {}
                if dead.load(Ordering::SeqCst) {
                    // Wakes the listener, which then closes.
                    let _ = TcpStream::connect(local);
                }
            });
        }
    });
    format!("http://{local}")
}

/// Answers one request; true if the connection can take another one.
fn answer(
    mut stream: &TcpStream,
    handler: &dyn Fn(&Request) -> Reply,
    dead: &AtomicBool,
) -> std::io::Result<bool> {
    let Some(request) = read(stream)? else { return Ok(false) };
    let (status, header, body) = match handler(&request) {
        Reply::Answer(status, body) => (status, String::new(), body),
        Reply::Moved(to) => (302, format!("Location: {to}\r\n"), String::new()),
        Reply::Drop => return Ok(false),
        Reply::Die => {
            dead.store(true, Ordering::SeqCst);
            return Ok(false);
        }
    };
    write!(stream, "HTTP/1.1 {status} Status\r\n{header}Content-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(true)
}

/// Reads a request; none if the client has closed the connection.
fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { path, headers, body: String::from_utf8(body).unwrap() }))
}
