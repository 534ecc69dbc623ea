//! How a process was started: alone, or as one of several by `mpirun`, `srun`, `torchrun` or by hand.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::distributed::tcp::Rendezvous;
use crate::error::{Error, Result};

/// Port of rank 0 if none is given, as PyTorch's.
const PORT: u16 = 29_500;

/// How processes talk to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Whatever the process was started with.
    #[default]
    Auto,
    /// MPI.
    Mpi,
    /// TCP connections, with the addresses of the environment.
    Tcp,
    /// Not at all: this process trains on its own.
    None,
}

/// How a process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    Alone,
    /// By an MPI launcher, which gives this number of processes, if any.
    Mpi {
        size: Option<usize>,
    },
    Tcp(Rendezvous),
}

/// Environment variables by name.
pub(crate) type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Launch {
    /// Finds out how this process was started. `has_mpi` tells if this build can use MPI.
    ///
    /// # Errors
    /// Returns an error if the variables contradict each other, or one is missing.
    pub(crate) fn of(engine: Engine, has_mpi: bool, variables: &Variables) -> Result<Self> {
        match engine {
            Engine::None => Ok(Self::Alone),
            Engine::Mpi if has_mpi => Ok(Self::Mpi { size: mpi_size(variables)? }),
            Engine::Mpi => Err(without_mpi("option `engine` mpi")),
            Engine::Tcp => Self::tcp(variables),
            Engine::Auto => Self::auto(has_mpi, variables),
        }
    }

    fn tcp(variables: &Variables) -> Result<Self> {
        let ways = [torch(variables)?, slurm(variables)?, open_mpi(variables)?];
        let Some(ranks) = ways.into_iter().flatten().next() else {
            let what = "tcp requires the variables RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them";
            return Err(Error::config("engine", what));
        };
        Ok(Self::Tcp(ranks.rendezvous(variables)?))
    }

    fn auto(has_mpi: bool, variables: &Variables) -> Result<Self> {
        if let Some(ranks) = torch(variables)? {
            return ranks.launch(variables);
        }
        let by_mpi = mpi_size(variables)?;
        if by_mpi == Some(1) {
            return Ok(Self::Alone);
        }
        if by_mpi.is_some() || variables("PMIX_RANK").is_some() {
            if has_mpi {
                return Ok(Self::Mpi { size: by_mpi });
            }
            // The launcher of MPI, with connections of our own.
            return match (open_mpi(variables)?, variables("MASTER_ADDR")) {
                (Some(ranks), Some(_)) => ranks.launch(variables),
                _ => Err(without_mpi("this process was started by a launcher of MPI")),
            };
        }
        slurm(variables)?.map_or(Ok(Self::Alone), |ranks| ranks.launch(variables))
    }
}

fn without_mpi(what: &str) -> Error {
    let what = format!(
        "{what}, but this build has no MPI; build it with `--features mpi`, or set MASTER_ADDR to the host of rank 0, or \
         give option `engine` none to train on each process by itself"
    );
    Error::config("engine", what)
}

impl Launch {
    /// Returns the number of processes that were started together, as far as the environment tells.
    pub(crate) fn processes(variables: &Variables) -> Result<usize> {
        let ways = [torch(variables)?, slurm(variables)?];
        let known = ways.into_iter().flatten().map(|ranks| ranks.size).next();
        Ok(known.or(mpi_size(variables)?).unwrap_or(1))
    }
}

/// Position among the processes, and where it comes from.
#[derive(Debug, PartialEq, Eq)]
struct Ranks {
    rank: usize,
    size: usize,
    from: &'static str,
}

impl Ranks {
    fn launch(self, variables: &Variables) -> Result<Launch> {
        if self.size == 1 { Ok(Launch::Alone) } else { Ok(Launch::Tcp(self.rendezvous(variables)?)) }
    }

    fn rendezvous(self, variables: &Variables) -> Result<Rendezvous> {
        let Self { rank, size, from } = self;
        let Some(host) = variables("MASTER_ADDR") else {
            let what = format!(
                "{from} started {size} processes; set MASTER_ADDR to the host name of the first one (in a SLURM job: \
                 `export MASTER_ADDR=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n1)`)"
            );
            return Err(Error::config("engine", what));
        };
        let mut port = number(variables, "MASTER_PORT")?.unwrap_or(PORT);
        // The agent of torchrun listens at this port itself.
        if variables("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|on| on == "True") {
            port = port.saturating_add(1);
        }
        let part = |name: &str| variables(name).unwrap_or_default();
        let names = ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_STEP_ID"];
        let job = names.map(part).join("/");
        Ok(Rendezvous { rank, size, host, port, job })
    }
}

/// Reads a number from a variable.
fn number<T: FromStr>(variables: &Variables, name: &str) -> Result<Option<T>>
where
    T::Err: fmt::Display,
{
    let read = |text: String| {
        text.parse().map_err(|e| Error::config("engine", format!("the variable {name} is `{text}`: {e}")))
    };
    variables(name).map(read).transpose()
}

/// The number of processes that a launcher of MPI gives.
fn mpi_size(variables: &Variables) -> Result<Option<usize>> {
    match number(variables, "OMPI_COMM_WORLD_SIZE")? {
        Some(size) => Ok(Some(size)),
        None => number(variables, "PMI_SIZE"),
    }
}

fn torch(variables: &Variables) -> Result<Option<Ranks>> {
    let (rank, size) = (number(variables, "RANK")?, number(variables, "WORLD_SIZE")?);
    pair(rank, size, "the variable WORLD_SIZE", "RANK")
}

fn open_mpi(variables: &Variables) -> Result<Option<Ranks>> {
    let size = mpi_size(variables)?;
    let rank = match number(variables, "OMPI_COMM_WORLD_RANK")? {
        Some(rank) => Some(rank),
        None => number(variables, "PMI_RANK")?,
    };
    pair(rank, size, "a launcher of MPI", "OMPI_COMM_WORLD_RANK")
}

/// SLURM sets its variables in shells of `salloc` and in batch scripts as well, which are one
/// process.
fn slurm(variables: &Variables) -> Result<Option<Ranks>> {
    let in_step =
        variables("SLURM_STEP_ID").is_some_and(|id| id.parse::<u32>().is_ok_and(|id| id < 0xffff_0000));
    if !in_step {
        return Ok(None);
    }
    let size = match number(variables, "SLURM_STEP_NUM_TASKS")? {
        Some(size) => Some(size),
        None => number(variables, "SLURM_NTASKS")?,
    };
    if size == Some(1) {
        return Ok(None);
    }
    pair(number(variables, "SLURM_PROCID")?, size, "srun", "SLURM_PROCID")
}

fn pair(
    rank: Option<usize>,
    size: Option<usize>,
    from: &'static str,
    name_of_rank: &str,
) -> Result<Option<Ranks>> {
    match (rank, size) {
        (_, None) => Ok(None),
        (Some(rank), Some(size)) if rank < size => Ok(Some(Ranks { rank, size, from })),
        (None, Some(1)) => Ok(None),
        (None, Some(size)) => {
            let what =
                format!("{from} is for {size} processes, but {name_of_rank} is not set; set both or none");
            Err(Error::config("engine", what))
        }
        (Some(rank), Some(size)) => {
            let what = format!("{name_of_rank} is {rank}, but there are {size} processes, counted from 0");
            Err(Error::config("engine", what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(engine: Engine, has_mpi: bool, set: &str) -> std::result::Result<Launch, String> {
        let pairs: Vec<(&str, &str)> =
            set.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        let variables =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Launch::of(engine, has_mpi, &variables).map_err(|error| error.to_string())
    }

    fn tcp(rank: usize, size: usize, host: &str, port: u16, job: &str) -> Launch {
        Launch::Tcp(Rendezvous { rank, size, host: host.into(), port, job: job.into() })
    }

    const OPEN_MPI: &str = "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=3 PMIX_RANK=3";
    const HYDRA: &str = "PMI_SIZE=2 PMI_RANK=1";
    const TORCHRUN: &str = "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 MASTER_ADDR=node1 MASTER_PORT=1234 TORCHELASTIC_RUN_ID=x \
                            TORCHELASTIC_RESTART_COUNT=2";
    const SRUN: &str = "SLURM_JOB_ID=77 SLURM_STEP_ID=0 SLURM_PROCID=2 SLURM_NTASKS=4";

    #[test]
    fn each_launcher_is_recognized() {
        let auto = |has_mpi, set: &str| of(Engine::Auto, has_mpi, set).unwrap();
        assert_eq!(auto(true, ""), Launch::Alone);
        assert_eq!(auto(true, OPEN_MPI), Launch::Mpi { size: Some(4) });
        assert_eq!(auto(true, HYDRA), Launch::Mpi { size: Some(2) });
        assert_eq!(auto(true, "PMIX_RANK=0"), Launch::Mpi { size: None });
        assert_eq!(auto(true, "OMPI_COMM_WORLD_SIZE=1 OMPI_COMM_WORLD_RANK=0"), Launch::Alone);
        assert_eq!(auto(false, TORCHRUN), tcp(5, 8, "node1", 1234, "x/2//"));
        assert_eq!(auto(false, &format!("{SRUN} MASTER_ADDR=a")), tcp(2, 4, "a", PORT, "//77/0"));
        assert_eq!(auto(false, &format!("{OPEN_MPI} MASTER_ADDR=a")), tcp(3, 4, "a", PORT, "///"));
        let agent = format!("{TORCHRUN} TORCHELASTIC_USE_AGENT_STORE=True");
        assert_eq!(auto(false, &agent), tcp(5, 8, "node1", 1235, "x/2//"));
        assert_eq!(of(Engine::Mpi, true, ""), Ok(Launch::Mpi { size: None }));
        assert_eq!(of(Engine::None, true, OPEN_MPI), Ok(Launch::Alone));
    }

    #[test]
    fn shells_of_slurm_are_one_process() {
        let batch = "SLURM_JOB_ID=77 SLURM_PROCID=0 SLURM_NTASKS=4";
        assert_eq!(of(Engine::Auto, false, batch), Ok(Launch::Alone));
        for special in ["4294967290", "4294967291"] {
            let set = format!("{batch} SLURM_STEP_ID={special}");
            assert_eq!(of(Engine::Auto, false, &set), Ok(Launch::Alone), "{special}");
        }
        let one = "SLURM_JOB_ID=77 SLURM_STEP_ID=3 SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=1";
        assert_eq!(of(Engine::Auto, false, one), Ok(Launch::Alone));
    }

    #[test]
    fn contradictions_and_gaps_are_errors() {
        for (engine, has_mpi, set, expected) in [
            (Engine::Auto, false, OPEN_MPI, "--features mpi"),
            (Engine::Mpi, false, "", "--features mpi"),
            (Engine::Auto, false, SRUN, "scontrol show hostnames"),
            (Engine::Auto, false, "RANK=4 WORLD_SIZE=4", "RANK is 4, but there are 4"),
            (Engine::Auto, false, "WORLD_SIZE=4", "RANK is not set"),
            (Engine::Auto, false, "RANK=0 WORLD_SIZE=2", "MASTER_ADDR"),
            (Engine::Auto, false, "RANK=0 WORLD_SIZE=two", "WORLD_SIZE is `two`"),
            (Engine::Tcp, false, "", "RANK, WORLD_SIZE"),
        ] {
            let error = of(engine, has_mpi, set).unwrap_err();
            assert!(error.contains(expected), "{set}: {error}");
        }
    }
}
