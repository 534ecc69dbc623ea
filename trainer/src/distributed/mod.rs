//! Training on several processes: who they are, how they talk, and what they agree on.
//!
//! A run is planned for a number of devices, its *slots*. Each process (*rank*) computes the passes
//! of some of them. Everything that decides the outcome follows from the slots, so a run is bitwise
//! the same on any number of processes, unless NCCL adds up gradients.

pub(crate) mod buckets;
pub(crate) mod collectives;
pub(crate) mod communicator;
pub(crate) mod control;
pub(crate) mod group;
pub(crate) mod host;
pub(crate) mod join;
pub(crate) mod launch;
pub(crate) mod member;
#[cfg(feature = "mpi")]
pub(crate) mod mpi;
#[cfg(feature = "cuda")]
pub(crate) mod nccl;
pub(crate) mod slots;
pub(crate) mod sum_encoding;
pub(crate) mod sums;
pub(crate) mod tcp;
pub(crate) mod threads;
pub(crate) mod transport;
pub(crate) mod wait_timer;

pub use group::Group;
pub use join::{exit, join, processes};
pub use launch::Engine;
pub use member::Member;
