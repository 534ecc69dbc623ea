//! Commands that several processes run together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use efficienttrain::Error;
use efficienttrain::distributed::{Engine, Group, exit, join, processes};

use super::signals::Stopped;

/// Time that a process has to end by itself after the communication has failed.
const GRACE: Duration = Duration::from_secs(10);
/// Interval at which the communication is checked.
const POLL: Duration = Duration::from_millis(200);
/// Time for the last message to reach the terminal before a launcher ends all processes.
const FLUSH_TIME: Duration = Duration::from_millis(300);

/// Set in all processes but the first one: they print nothing.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Options of the communication between processes.
#[derive(Args)]
pub(crate) struct RankArgs {
    /// How processes talk to each other: `auto` for what started this one (`mpirun`, `srun`,
    /// `torchrun`), `mpi` in builds with the feature `mpi`, `tcp` with the variables of `torchrun`
    #[arg(long, value_enum, default_value_t = Engine::Auto, help_heading = "Several processes")]
    engine: Engine,

    /// End the job if a process is silent for this long while others wait for it
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = seconds,
          help_heading = "Several processes")]
    rank_timeout: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|seconds| (1.0..=1e6).contains(seconds));
    number.ok_or_else(|| "expected seconds from 1 to 1000000".into())
}

/// Returns true if this process prints nothing, since another one does.
pub(super) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Refuses to run `command` as one of several processes, which would all do the same.
pub(super) fn refuse(command: &str) -> Result<()> {
    match processes()? {
        2.. => bail!(
            "`{command}` runs in one process, but this is one of several; start it without mpirun, srun or torchrun"
        ),
        _ => Ok(()),
    }
}

impl RankArgs {
    /// Runs `work` together with the other processes that were started with this one.
    ///
    /// # Errors
    /// Those of joining, and that of `work` in a process of its own; one of several ends here.
    pub(super) fn run(&self, work: impl FnOnce(&Group) -> Result<()>) -> Result<()> {
        let warn = |text: &str| super::eprint_line(format!("warning: {text}"));
        let group = join(self.engine, Duration::from_secs_f64(self.rank_timeout), Box::new(warn))?;
        if !group.is_shared() {
            return work(&group);
        }
        QUIET.store(!group.is_first(), Ordering::Relaxed);
        group.take_share();
        // Fails if --threads has set their number.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(group.cores()).build_global();
        group.warnings().iter().for_each(|text| warn(text));
        watch(&group)?;
        conclude(&group, work(&group))
    }
}

/// Ends this process if the communication fails and its training thread does not notice.
fn watch(group: &Group) -> Result<()> {
    let group = group.clone();
    let look = move || {
        while group.failure().is_none() {
            std::thread::sleep(POLL);
        }
        std::thread::sleep(GRACE);
        super::always_eprint_line(format!("error: {}", group.failure().unwrap_or_default()));
        exit(1)
    };
    std::thread::Builder::new().name("watch".into()).spawn(look)?;
    Ok(())
}

/// Ends the communication: all processes end alike. If one has failed, this does not return.
fn conclude(group: &Group, outcome: Result<()>) -> Result<()> {
    let stopped = outcome.as_ref().is_err_and(|error| error.is::<Stopped>());
    let error = match outcome {
        Err(error) if !stopped => error,
        ended => match group.agree(Ok(())) {
            Ok(()) => {
                group.finish();
                return ended;
            }
            Err(error) => error.into(),
        },
    };
    let of_another = error.downcast_ref().is_some_and(Error::is_of_another_process);
    let is_shown_by_another = group.fail(&super::render_error(&error), of_another);
    if !is_shown_by_another {
        super::always_eprint_line(format!("error: {}", super::render_error(&error)));
    }
    std::thread::sleep(FLUSH_TIME);
    exit(1)
}
