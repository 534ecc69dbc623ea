//! Joins the processes that were started together.

use std::io::Write;
use std::time::Duration;

use crate::distributed::control::Warn;
use crate::distributed::group::Group;
use crate::distributed::launch::{Engine, Launch};
use crate::distributed::tcp::TcpTransport;
use crate::distributed::transport::Transport;
use crate::error::Result;

/// Joins the processes that `mpirun`, `srun` or `torchrun` started together, found by environment
/// variables. A process that was started alone is a group of its own.
///
/// A process that is silent for longer than `limit` while others wait for it ends the job; `warn`
/// shows who is waited for before.
///
/// # Errors
/// Returns an error if the variables contradict each other, the others do not come within `limit`, or
/// this build lacks what the launcher needs.
pub fn join(engine: Engine, limit: Duration, warn: Warn) -> Result<Group> {
    match Launch::of(engine, cfg!(feature = "mpi"), &variables)? {
        Launch::Alone => Ok(Group::alone()),
        Launch::Mpi { size } => Group::open(limit, warn, move || mpi(size)),
        Launch::Tcp(at) => Group::open(limit, warn, move || {
            Ok(Box::new(TcpTransport::join(&at, limit)?) as Box<dyn Transport>)
        }),
    }
}

/// Returns the number of processes that were started together with this one, this one included.
///
/// # Errors
/// Returns an error if the variables contradict each other.
pub fn processes() -> Result<usize> {
    Launch::processes(&variables)
}

/// Ends a process whose job has failed. It does not clean up what may wait forever for other
/// processes, as NCCL does.
pub fn exit(code: i32) -> ! {
    // Nothing else is done about a terminal that is gone.
    let _ = std::io::stdout().flush();
    #[cfg(feature = "cuda")]
    efficienttrain_models::ops::cuda::exit_now(code);
    #[cfg(not(feature = "cuda"))]
    std::process::exit(code)
}

fn variables(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(feature = "mpi")]
fn mpi(size: Option<usize>) -> Result<Box<dyn Transport>> {
    Ok(Box::new(crate::distributed::mpi::MpiTransport::join(size)?))
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: Option<usize>) -> Result<Box<dyn Transport>> {
    Err(crate::error::Error::config("engine", "this build has no MPI; build it with `--features mpi`"))
}
