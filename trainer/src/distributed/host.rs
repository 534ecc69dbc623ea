//! What the processes of one host share: cores and GPUs.

use crate::distributed::group::Group;
use crate::distributed::member::Member;
use crate::distributed::slots::slots_of;
use crate::util::share;

impl Group {
    /// Returns the position of this process among those of its host.
    pub fn local_rank(&self) -> usize {
        let Some(own) = self.members.get(self.rank()) else { return 0 };
        self.members[..self.rank()].iter().filter(|member| member.host == own.host).count()
    }

    /// Returns the number of processes on this host.
    pub fn local_size(&self) -> usize {
        let Some(own) = self.members.get(self.rank()) else { return 1 };
        self.members.iter().filter(|member| member.host == own.host).count()
    }

    /// Returns the number of cores for the threads of this process: its share of those that it and
    /// other processes of its host may run on.
    pub fn cores(&self) -> usize {
        let Some(own) = self.members.get(self.rank()) else { return share::cores() };
        let same = |member: &&Member| member.host == own.host && member.cores == own.cores;
        let before = self.members[..self.rank()].iter().filter(same).count();
        let sharers = self.members.iter().filter(same).count().max(1);
        // The first ones take what does not divide evenly.
        ((own.cores.len() + sharers - 1 - before) / sharers).max(1)
    }

    /// Makes this process use its share of its host from now on: its cores, and a GPU of its own.
    pub fn take_share(&self) {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let gpus = visible.map(|list| list.split(',').filter(|gpu| !gpu.trim().is_empty()).count());
        // A launcher may show each process its own GPU alone.
        let gpu = gpus.filter(|&gpus| gpus > 0).map_or(self.local_rank(), |gpus| self.local_rank() % gpus);
        share::set(self.cores(), gpu);
    }

    /// Returns the hosts with the number of their processes, in order of ranks.
    pub fn hosts(&self) -> Vec<(String, usize)> {
        let mut hosts: Vec<(String, usize)> = Vec::new();
        for member in self.members.iter() {
            match hosts.iter_mut().find(|(host, _)| *host == member.host) {
                Some((_, processes)) => *processes += 1,
                None => hosts.push((member.host.clone(), 1)),
            }
        }
        hosts
    }

    /// Returns warnings about how the processes were started.
    pub fn warnings(&self) -> Vec<String> {
        let of = |host: &str| self.members.iter().filter(|m| m.host == host).collect::<Vec<_>>();
        let bound = |(host, _): &(String, usize)| {
            let (here, mut used) = (of(host), Vec::<usize>::new());
            here.iter().for_each(|member| used.extend(&member.cores));
            used.sort_unstable();
            used.dedup();
            let there = here.iter().map(|member| member.machine_cores).max().unwrap_or(0);
            (here.iter().all(|member| member.cores.len() == 1) && used.len() < there).then(|| {
                format!(
                    "on {host}, each process may use a single core, {} of {there} in all; start them with \
                     `mpirun --bind-to none` or `--map-by slot:PE=N`",
                    used.len()
                )
            })
        };
        self.hosts().iter().filter_map(bound).collect()
    }

    /// Returns the number of device slots of the processes of this host.
    pub(crate) fn host_slots(&self) -> u32 {
        let Some(own) = self.members.get(self.rank()) else { return self.slots };
        let here = self.members.iter().enumerate().filter(|(_, member)| member.host == own.host);
        here.map(|(rank, _)| slots_of(rank, self.size(), self.slots).len() as u32).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_divided_among_those_that_share_them() {
        let member = |host: &str, cores: &[usize]| Member {
            host: host.into(),
            cores: cores.into(),
            ..Member::default()
        };
        let members =
            vec![member("a", &[0, 1, 2]), member("a", &[0, 1, 2]), member("a", &[3]), member("b", &[0])];
        let group = Group { members: members.into(), ..Group::default() };
        assert_eq!(group.cores(), 2);
        assert_eq!((group.local_rank(), group.local_size()), (0, 3));
    }
}
