//! Ranks as processes that are connected by TCP, each with each.
//!
//! Rank 0 listens at an address that all know. The others connect to it and say where they listen
//! themselves; rank 0 sends the list of all addresses, and each rank connects to those before it.
//! One thread a connection reads, so that no rank waits for another one to take its messages.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::distributed::transport::{Incoming, MessageKind, Transport};
use crate::error::{Error, Result};

/// First bytes of each connection, so that a stray one is not taken for a rank.
const MAGIC: &[u8; 8] = b"etrank01";
/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
/// Time that a new connection has to say which rank it is.
const HELLO: Duration = Duration::from_secs(5);
/// Longest wait of a single write.
const WRITE: Duration = Duration::from_millis(100);
/// Longest introduction, in bytes.
const LONGEST_HELLO: u32 = 1 << 20;

/// Where and as what to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendezvous {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    /// Host name or address of rank 0.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Identifies the job and the attempt: processes left over from an earlier one are turned away.
    pub(crate) job: String,
}

/// Introduction of a connection.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    job: String,
    rank: usize,
    size: usize,
    /// Port at which the rank listens.
    port: u16,
}

/// Messages over connections.
pub(crate) struct TcpTransport {
    rank: usize,
    incoming: Receiver<Incoming>,
    /// To each rank; none to this one, and to those that are gone.
    others: Vec<Option<TcpStream>>,
}

impl TcpTransport {
    /// Connects to all other ranks within `limit`.
    ///
    /// # Errors
    /// The error names the ranks that have not come, or the address that cannot be used.
    pub(crate) fn join(at: &Rendezvous, limit: Duration) -> Result<Self> {
        let until = Instant::now() + limit;
        let streams = if at.rank == 0 { welcome(at, until)? } else { meet(at, until)? };
        let (send, incoming) = channel();
        for (from, stream) in streams.iter().enumerate() {
            if let Some(stream) = stream {
                prepare(stream, from, &send)?;
            }
        }
        Ok(Self { rank: at.rank, incoming, others: streams })
    }
}

fn failed(what: impl Into<String>) -> Error {
    Error::Distributed(what.into())
}

/// Rank 0: waits for all others and sends them the list of addresses.
fn welcome(at: &Rendezvous, until: Instant) -> Result<Vec<Option<TcpStream>>> {
    let listener = TcpListener::bind(("0.0.0.0", at.port)).map_err(|error| {
        failed(format!(
            "rank 0 cannot listen at port {}: {error}; give another MASTER_PORT on all ranks",
            at.port
        ))
    })?;
    let mut addresses: Vec<Option<SocketAddr>> = vec![None; at.size];
    let mut streams = accept(&listener, at, 1..at.size, until, |hello, from| {
        addresses[hello.rank] = Some(SocketAddr::new(from, hello.port));
    })?;
    let list = serde_json::to_vec(&addresses).unwrap_or_default();
    for stream in streams.iter_mut().flatten() {
        write_frame(stream, &list).map_err(|error| failed(format!("a rank left while joining: {error}")))?;
    }
    Ok(streams)
}

/// Another rank: connects to rank 0, then to the ranks before it, and waits for those after it.
fn meet(at: &Rendezvous, until: Instant) -> Result<Vec<Option<TcpStream>>> {
    let listener = TcpListener::bind(("0.0.0.0", 0)).map_err(|e| failed(format!("cannot listen: {e}")))?;
    let port = listener.local_addr().map_err(|e| failed(format!("cannot listen: {e}")))?.port();
    let hello = Hello { job: at.job.clone(), rank: at.rank, size: at.size, port };
    let first = || {
        let mut found = (at.host.as_str(), at.port).to_socket_addrs()?;
        found.next().ok_or_else(|| std::io::Error::other("the name has no address"))
    };
    let whom = format!("rank 0 at {}:{} (MASTER_ADDR, MASTER_PORT)", at.host, at.port);
    let (stream, list) = loop {
        let mut stream = connect(&whom, first, &hello, until)?;
        let left = until.saturating_duration_since(Instant::now()).max(RETRY);
        let list = stream.set_read_timeout(Some(left)).and_then(|()| read_frame(&mut stream));
        match list {
            Ok(list) => break (stream, list),
            // Turned away: this may still be the rank 0 of an earlier attempt.
            Err(e) if Instant::now() >= until => return Err(failed(format!("{whom} does not answer: {e}"))),
            Err(_) => std::thread::sleep(RETRY),
        }
    };
    stream.set_read_timeout(None).map_err(|e| failed(e.to_string()))?;
    let addresses: Vec<Option<SocketAddr>> = serde_json::from_slice(&list)
        .map_err(|e| failed(format!("{whom} sent something else than the ranks' addresses: {e}")))?;
    let mut streams = vec![Some(stream)];
    for (rank, address) in addresses.iter().enumerate().take(at.rank).skip(1) {
        let address = address.ok_or_else(|| failed(format!("rank 0 does not know rank {rank}")))?;
        streams.push(Some(connect(&format!("rank {rank} at {address}"), || Ok(address), &hello, until)?));
    }
    let after = accept(&listener, at, at.rank + 1..at.size, until, |_, _| ())?;
    streams.push(None);
    streams.extend(after.into_iter().skip(at.rank + 1));
    Ok(streams)
}

/// Accepts a connection of each rank in `ranks`; those of others are closed.
fn accept(
    listener: &TcpListener,
    at: &Rendezvous,
    ranks: std::ops::Range<usize>,
    until: Instant,
    mut each: impl FnMut(&Hello, IpAddr),
) -> Result<Vec<Option<TcpStream>>> {
    listener.set_nonblocking(true).map_err(|e| failed(e.to_string()))?;
    let mut streams: Vec<Option<TcpStream>> = (0..at.size).map(|_| None).collect();
    while ranks.clone().any(|rank| streams[rank].is_none()) {
        match listener.accept() {
            Ok((mut stream, from)) => match greeting(&mut stream) {
                Some(hello)
                    if hello.job == at.job && hello.size == at.size && ranks.contains(&hello.rank) =>
                {
                    each(&hello, from.ip());
                    streams[hello.rank] = Some(stream);
                }
                _ => drop(stream),
            },
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if Instant::now() >= until {
                    let missing: Vec<_> = ranks.filter(|&rank| streams[rank].is_none()).collect();
                    let what = format!(
                        "of {} ranks, these have not come: {missing:?}; start them all with the same WORLD_SIZE, \
                         MASTER_ADDR and MASTER_PORT",
                        at.size
                    );
                    return Err(failed(what));
                }
                std::thread::sleep(RETRY / 10);
            }
            Err(e) => return Err(failed(format!("cannot accept connections: {e}"))),
        }
    }
    Ok(streams)
}

/// Reads the introduction of a new connection; none if it is not one of ours.
fn greeting(stream: &mut TcpStream) -> Option<Hello> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(HELLO)).ok()?;
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).ok()?;
    let hello = (magic == *MAGIC).then(|| read_frame(stream).ok())??;
    stream.set_read_timeout(None).ok()?;
    serde_json::from_slice(&hello).ok()
}

/// Connects and introduces this rank; tries again until the time is out.
fn connect(
    whom: &str,
    address: impl Fn() -> std::io::Result<SocketAddr>,
    hello: &Hello,
    until: Instant,
) -> Result<TcpStream> {
    let hello = serde_json::to_vec(hello).unwrap_or_default();
    loop {
        let connected = address().and_then(|address| TcpStream::connect_timeout(&address, HELLO));
        let greeted = connected.and_then(|mut stream| {
            stream.write_all(MAGIC)?;
            write_frame(&mut stream, &hello)?;
            Ok(stream)
        });
        match greeted {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() >= until => return Err(failed(format!("cannot reach {whom}: {e}"))),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

fn write_frame(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(bytes.len() as u32).to_le_bytes())?;
    stream.write_all(bytes)
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > LONGEST_HELLO {
        return Err(std::io::Error::other("an introduction is too long"));
    }
    let mut bytes = vec![0; len as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Sets up a connection for messages and starts the thread that reads it.
fn prepare(stream: &TcpStream, from: usize, send: &Sender<Incoming>) -> Result<()> {
    let set = |stream: &TcpStream| {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE))?;
        stream.try_clone()
    };
    let mut incoming = set(stream).map_err(|e| failed(format!("rank {from}: {e}")))?;
    let send = send.clone();
    let read = move || {
        while let Ok((kind, bytes)) = read_message(&mut incoming) {
            if send.send(Incoming::Message { from, kind, bytes }).is_err() {
                return;
            }
        }
        let _ = send.send(Incoming::Closed { from });
    };
    // Ends with the connection.
    let thread = std::thread::Builder::new().name("rank-reader".into()).spawn(read);
    thread.map(|_| ()).map_err(|e| failed(format!("cannot start a thread: {e}")))
}

fn read_message(stream: &mut TcpStream) -> std::io::Result<(MessageKind, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let kind = MessageKind::of(head[0]).ok_or_else(|| std::io::Error::other("not a message"))?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let mut bytes = Vec::new();
    // Grows with what arrives, so that a wrong length does not take all memory.
    let read = stream.take(u64::from(len)).read_to_end(&mut bytes)?;
    if read < len as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((kind, bytes))
}

impl Transport for TcpTransport {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.others.len()
    }

    fn send(
        &mut self,
        to: usize,
        kind: MessageKind,
        bytes: Vec<u8>,
        pause: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let Some(stream) = &mut self.others[to] else { return Ok(()) };
        let [a, b, c, d] = (bytes.len() as u32).to_le_bytes();
        for mut part in [&[kind as u8, a, b, c, d][..], &bytes] {
            while !part.is_empty() {
                match stream.write(part) {
                    Ok(written) if written > 0 => part = &part[written..],
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => pause()?,
                    // The reader of this connection reports that it is closed.
                    _ => {
                        self.others[to] = None;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }
}

impl Drop for TcpTransport {
    /// Also ends the threads that read, which have copies of the connections.
    fn drop(&mut self) {
        for stream in self.others.iter().flatten() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
