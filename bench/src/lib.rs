//! What the benchmarks of this workspace share; each stage of training has a file in `benches/`.

mod photos;

use std::time::Duration;

use criterion::Criterion;

pub use photos::{Photos, file, photo};

/// Returns the settings of all benchmarks: ten samples within two seconds each, so that all of them
/// together take minutes, not hours. `--sample-size` and `--measurement-time` override them.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}
