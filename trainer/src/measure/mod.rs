//! Measurements: the speed of this machine, the cost of models, a forecast of a run, checks of an
//! installation.

pub mod autobatch;
pub mod bench;
pub(crate) mod costs;
pub mod doctor;
pub mod forecast;
pub(crate) mod machine;
pub(crate) mod remedies;
pub(crate) mod timing;

pub use costs::{macs_of, parameters_of, with_known_cost};
