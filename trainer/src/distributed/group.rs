//! The processes of a job that train together.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::distributed::collectives::SumRequest;
use crate::distributed::communicator::{Communicator, PendingSum};
use crate::distributed::control::{Failure, Phase, Warn};
use crate::distributed::member::Member;
use crate::distributed::slots::{nodes_of, slots_of};
use crate::distributed::threads::ThreadTransport;
use crate::distributed::transport::Transport;
use crate::error::{Error, Result};

/// Processes that train together, as one of them sees it. Its default is a process of its own.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub(super) members: Arc<[Member]>,
    pub(super) communicator: Option<Arc<Communicator>>,
    /// Device slots of the run's plan.
    pub(super) slots: u32,
}

/// What a rank says in an agreement: its error, if it has one.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict(Option<String>);

impl Group {
    /// A process of its own.
    pub fn alone() -> Self {
        Self { slots: 1, ..Self::default() }
    }

    /// Creates the ends of a group whose members are threads of this process. A member that is
    /// silent for longer than `limit` while others wait for it is an error.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub fn threads(size: usize, limit: Duration) -> Result<Vec<Self>> {
        let start = |transport: ThreadTransport| {
            Communicator::start(limit, move || Ok(Box::new(transport) as Box<dyn Transport>))
        };
        let communicators: Vec<_> =
            ThreadTransport::all(size).into_iter().map(start).collect::<Result<_>>()?;
        // All must be there before the first waits for the others.
        let with_members: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                communicators.into_iter().map(|c| scope.spawn(|| Self::with_members(c))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let failed = |_| Error::Distributed("a thread of the group has panicked".into());
        with_members.into_iter().map(|group| group.map_err(failed)?).collect()
    }

    /// Joins the other processes over a transport.
    ///
    /// # Errors
    /// That of `open`; also if a process fails meanwhile.
    pub(crate) fn open(
        limit: Duration,
        warn: Warn,
        open: impl FnOnce() -> Result<Box<dyn Transport>> + Send + 'static,
    ) -> Result<Self> {
        let communicator = Communicator::start(limit, open)?;
        communicator.board.show_warnings(warn);
        Self::with_members(communicator)
    }

    fn with_members(communicator: Communicator) -> Result<Self> {
        let members = communicator.gather(to_json(&Member::this())?)?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice(bytes);
        let members: Vec<Member> = members.iter().map(read).collect::<Result<_, _>>().map_err(|e| {
            Error::Distributed(format!(
                "the processes are of different versions of this program ({e}); start the same on all hosts"
            ))
        })?;
        communicator.set_peer_names(members.iter().map(Member::about).collect());
        let slots = members.len() as u32;
        Ok(Self { members: members.into(), communicator: Some(Arc::new(communicator)), slots })
    }

    /// Returns the position of this process, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.as_ref().map_or(0, |c| c.rank)
    }

    /// Returns the number of processes.
    pub fn size(&self) -> usize {
        self.communicator.as_ref().map_or(1, |c| c.size)
    }

    /// Returns true for the process that writes, logs and shows progress.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Returns true if there are several processes.
    pub fn is_shared(&self) -> bool {
        self.size() > 1
    }

    /// Returns true if there are connections, even if there are no other processes.
    pub(crate) fn is_connected(&self) -> bool {
        self.communicator.is_some()
    }

    /// Returns how long a process may be silent while others wait for it.
    #[cfg(feature = "cuda")]
    pub(crate) fn limit(&self) -> Duration {
        self.communicator.as_ref().map_or(Duration::MAX, |c| c.limit)
    }

    /// Returns the processes, in order of ranks; none for a process of its own.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the number of device slots of the plan.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the plan's device slots whose passes this process computes.
    pub(crate) fn own_slots(&self) -> Range<u32> {
        slots_of(self.rank(), self.size(), self.slots)
    }

    /// Returns the number of terms that this process gives to each sum over the slots.
    pub(crate) fn terms(&self) -> usize {
        nodes_of(self.own_slots(), self.slots).len()
    }

    /// Sets the number of device slots of the run's plan.
    ///
    /// # Errors
    /// Returns an error if there are fewer slots than processes.
    pub(crate) fn set_slots(&mut self, slots: u32) -> Result<()> {
        if (slots as usize) < self.size() {
            let what = format!(
                "the run is planned for {slots}, fewer than the {} processes; start at most {slots}, or give option \
                 `devices` {} or more",
                self.size(),
                self.size()
            );
            return Err(Error::config("devices", what));
        }
        self.slots = slots;
        if let Some(communicator) = &self.communicator {
            communicator.set_slots(slots);
        }
        Ok(())
    }

    /// Sets what this process is doing, for the messages of others that wait for it.
    pub(crate) fn enter(&self, phase: Phase, step: u64) {
        if let Some(communicator) = &self.communicator {
            communicator.board.set(phase, step);
        }
    }

    /// Returns what each process gives, in order of ranks.
    ///
    /// # Errors
    /// Returns an error if a process fails, is gone or is late.
    pub(crate) fn gather(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        match &self.communicator {
            Some(communicator) => communicator.gather(mine),
            None => Ok(vec![mine]),
        }
    }

    /// Like [`Self::gather`], for a value of any type.
    ///
    /// # Errors
    /// Same as [`Self::gather`]; also if a process sends something else.
    pub(crate) fn gather_values<T: Serialize + DeserializeOwned>(&self, mine: &T) -> Result<Vec<T>> {
        let all = self.gather(to_json(mine)?)?;
        let read = |(rank, bytes): (usize, &Vec<u8>)| {
            serde_json::from_slice(bytes).map_err(|e| {
                Error::Distributed(format!("{} sent something that cannot be read: {e}", self.name(rank)))
            })
        };
        all.iter().enumerate().map(read).collect()
    }

    /// Returns the value of the first process on all of them.
    ///
    /// # Errors
    /// Returns an error if a process fails, is gone or is late.
    pub fn broadcast(&self, value: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>> {
        let mine = if self.is_first() { value() } else { Vec::new() };
        Ok(self.gather(mine)?.swap_remove(0))
    }

    /// Waits until all processes have come to this point. If one has an error, all have one.
    ///
    /// # Errors
    /// Returns the error of this process, or that of the first one that has one.
    pub fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        if !self.is_shared() {
            return outcome;
        }
        let verdict = Verdict(outcome.as_ref().err().map(ToString::to_string));
        let all = self.gather_values(&verdict);
        // The own error comes first: another process may have ended because of it.
        let (value, all) = (outcome?, all?);
        match all.into_iter().enumerate().find_map(|(rank, Verdict(what))| Some((rank, what?))) {
            Some((rank, what)) => Err(Error::Rank { rank: self.name(rank), what }),
            None => Ok(value),
        }
    }

    /// Names a process in a message.
    pub(crate) fn name(&self, rank: usize) -> String {
        match self.members.get(rank) {
            Some(member) => format!("rank {rank} ({})", member.about()),
            None => format!("rank {rank}"),
        }
    }

    pub(crate) fn begin_sum(&self, request: SumRequest) -> Result<PendingSum> {
        let alone = || Error::Distributed("a process of its own has nothing to add up".into());
        self.communicator.as_ref().ok_or_else(alone)?.begin_sum(request)
    }

    pub(crate) fn finish_sum(&self, sum: &PendingSum) -> Result<Vec<f32>> {
        let alone = || Error::Distributed("a process of its own has nothing to add up".into());
        self.communicator.as_ref().ok_or_else(alone)?.finish_sum(sum)
    }

    /// Tells the other processes that this one fails. Returns true if the first one shows the error,
    /// so that this one need not; `of_another` tells that the error is not of this process itself.
    pub fn fail(&self, error: &str, of_another: bool) -> bool {
        let Some(communicator) = &self.communicator else { return false };
        let first = communicator.fail(Failure { message: error.into(), of_another });
        !self.is_first() && first.is_some_and(|first| of_another || first.contains(error))
    }

    /// Returns why the communication has failed; none if it has not.
    pub fn failure(&self) -> Option<String> {
        self.communicator.as_ref()?.failure()
    }

    /// Ends the communication, after all processes have agreed to.
    pub fn finish(&self) {
        if let Some(communicator) = &self.communicator {
            communicator.finish();
        }
    }
}

/// Returns a value as a message.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::Distributed(format!("a message cannot be written: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::SumType;

    fn on_threads<T: Send>(size: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
        let groups = Group::threads(size, Duration::from_secs(20)).unwrap();
        // A member that has left is an error of the others, as long as they communicate.
        let _all = groups.clone();
        std::thread::scope(|scope| {
            let threads: Vec<_> = groups.into_iter().map(|group| scope.spawn(|| work(group))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_get_what_each_gives() {
        for size in 1..=4 {
            let all = on_threads(size, |group| group.gather(vec![group.rank() as u8; group.rank()]).unwrap());
            let expected: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; rank]).collect();
            assert!(all.iter().all(|got| *got == expected), "{all:?}");
        }
    }

    #[test]
    fn an_error_of_one_is_one_of_all() {
        let outcomes = on_threads(3, |group| {
            let own = if group.rank() == 1 { Err(Error::config("data", "no such folder")) } else { Ok(()) };
            group.agree(own).unwrap_err().to_string()
        });
        assert_eq!(outcomes[1], "option `data`: no such folder");
        for other in [&outcomes[0], &outcomes[2]] {
            assert!(other.starts_with("rank 1 (") && other.ends_with(&outcomes[1]), "{other}");
        }
    }

    #[test]
    fn a_member_that_leaves_ends_the_others() {
        let mut groups = Group::threads(3, Duration::from_secs(20)).unwrap();
        drop(groups.pop());
        for group in groups {
            let error = group.gather(Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("rank 2 (") && error.contains("is gone"), "{error}");
        }
    }

    /// What a sum that failed has left unread is not taken for an answer to the next question.
    #[test]
    fn a_member_that_leaves_in_a_sum_is_named_ever_after() {
        let groups = Group::threads(3, Duration::from_secs(20)).unwrap();
        let [gone, second, third]: [Group; 3] = groups.try_into().unwrap();
        drop(gone);
        // The third sends its terms to the second, which waits for those of the first in vain.
        for group in [&third, &second] {
            let request = SumRequest { terms: vec![vec![1.0; 64]], dtype: SumType::F32 };
            group.finish_sum(&group.begin_sum(request).unwrap()).unwrap_err();
        }
        for _ in 0..2 {
            let error = second.gather(Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("rank 0 (") && error.contains("is gone"), "{error}");
        }
    }

    #[test]
    fn a_member_that_fails_is_named_with_its_reason() {
        let outcomes = on_threads(3, |group| match group.rank() {
            2 => group.fail("the disk is gone", false).to_string(),
            _ => {
                let error = group.gather(Vec::new()).unwrap_err();
                let silent = group.fail(&error.to_string(), true);
                assert_eq!(silent, group.rank() == 1, "{error}");
                error.to_string()
            }
        });
        assert_eq!(outcomes[2], "true", "rank 0 shows the error");
        for other in &outcomes[..2] {
            assert!(other.starts_with("rank 2 (") && other.ends_with("the disk is gone"), "{other}");
        }
    }

    #[test]
    fn a_member_that_is_silent_is_named() {
        let groups = Group::threads(2, Duration::from_secs(2)).unwrap();
        let [first, second]: [Group; 2] = groups.try_into().unwrap();
        second.enter(Phase::Loader, 7);
        let error = first.gather(Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("rank 1 (") && error.contains("is waiting for its data loader"), "{error}");
    }

    #[test]
    fn a_member_on_a_slow_disk_is_waited_for() {
        let groups = Group::threads(2, Duration::from_secs(2)).unwrap();
        let [first, second]: [Group; 2] = groups.try_into().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                second.enter(Phase::Files, 7);
                std::thread::sleep(Duration::from_secs(5));
                second.gather(Vec::new()).unwrap();
            });
            first.gather(Vec::new()).unwrap();
        });
    }
}
