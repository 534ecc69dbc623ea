//! Options that would make a run's images cheaper to prepare, and its time with them.

use serde::Serialize;

use crate::measure::machine::Machine;
use crate::run::Run;

/// Least part of the time of a run's steps that is worth an option.
const WORTH: f64 = 0.03;
/// Edge of packed images relative to the base size: the usual 256 pixels for 224.
const MARGIN: f64 = 256.0 / 224.0;
/// Pixels of an image by the square of its short edge: photographs are mostly 4 to 3.
const ASPECT: f64 = 4.0 / 3.0;

/// An option, and the time of a run's steps with it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remedy {
    /// Option or command, and what it takes.
    pub option: String,
    /// Time of all steps, in seconds.
    pub seconds: f64,
}

/// Work of a stage.
pub(crate) struct Load {
    /// Time of a step's passes, sums and update, in seconds.
    pub(crate) seconds: f64,
    pub(crate) steps: u64,
    /// Images of a step, and those of them that are prepared.
    pub(crate) images: f64,
    pub(crate) fresh: f64,
    /// CPU time to prepare an image, and the part of it to decode it, in seconds.
    pub(crate) prepare: f64,
    pub(crate) decode: f64,
    /// Pixels of a decoded image.
    pub(crate) pixels: f64,
    /// True if the replay buffer may be used.
    pub(crate) replays: bool,
}

impl Load {
    /// Returns the time of the stage if a step has `fresh` images to prepare that take `prepare`
    /// seconds each.
    fn time(&self, machine: &Machine, fresh: f64, prepare: f64) -> f64 {
        self.steps as f64 * machine.wall(self.seconds, fresh * prepare).0
    }
}

/// What a run has, and what it uses already.
pub(crate) struct Given {
    /// Number of training images.
    images: usize,
    base_size: u32,
    /// Images are decoded once, or at a reduced size.
    decodes_less: bool,
    replays: bool,
}

impl Given {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            images: run.sources.train.len(),
            base_size: run.config.base_size,
            decodes_less: run.options.cache_mib > 0 || run.config.reduced_decode,
            replays: run.config.replay.is_some(),
        }
    }
}

/// Returns what would save a part of the time that counts, the best first.
pub(crate) fn remedies(loads: &[Load], machine: &Machine, given: &Given) -> Vec<Remedy> {
    let total = |of: &dyn Fn(&Load) -> f64| loads.iter().map(of).sum::<f64>();
    let now = total(&|load| load.time(machine, load.fresh, load.prepare));
    let pixels = loads.iter().map(|load| load.pixels).fold(0.0, f64::max);
    let mut all = Vec::new();
    if !given.decodes_less {
        let seconds = total(&|load| load.time(machine, load.fresh, load.prepare - load.decode));
        let mib = (3.0 * pixels * given.images as f64 / f64::from(1 << 20)).ceil();
        let option = format!("--cache-mib {mib} (after the first pass)");
        all.push(Remedy { option, seconds });
    }
    let edge = (f64::from(given.base_size) * MARGIN).round();
    let packed = (edge * edge * ASPECT / pixels.max(1.0)).min(1.0);
    let seconds = total(&|load| load.time(machine, load.fresh, load.prepare - (1.0 - packed) * load.decode));
    all.push(Remedy { option: format!("images that `data pack --max-size {edge}` has packed"), seconds });
    if !given.replays {
        let half = |load: &Load| if load.replays { load.fresh.min(load.images / 2.0) } else { load.fresh };
        let seconds = total(&|load| load.time(machine, half(load), load.prepare));
        all.push(Remedy { option: "--replay 2 (each image is trained on twice)".into(), seconds });
    }
    all.retain(|remedy| remedy.seconds < (1.0 - WORTH) * now);
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: Given = Given { images: 1000, base_size: 224, decodes_less: false, replays: false };

    /// A stage of 100 steps with 512 images of 1024 x 768 pixels, of which a core prepares 250 a second:
    /// three of its four milliseconds are spent on decoding.
    fn stage(seconds: f64, replays: bool) -> Load {
        let (images, fresh, steps) = (512.0, 512.0, 100);
        Load { seconds, steps, images, fresh, prepare: 4e-3, decode: 3e-3, pixels: 1024.0 * 768.0, replays }
    }

    /// A GPU whose steps take 40 and 160 ms with 16 cores that need 128 ms for the images.
    #[test]
    fn a_gpu_waits_for_images_at_small_sizes_alone() {
        let machine = Machine { cores: 16.0, workers: 16.0, on_gpu: true };
        let stages = [stage(0.04, true), stage(0.16, false)];
        assert_eq!(machine.wall(0.04, 512.0 * 4e-3), (0.128, true));
        assert_eq!(machine.wall(0.16, 512.0 * 4e-3), (0.16, false));
        let found = remedies(&stages, &machine, &GIVEN);
        let seconds = |option: &str| {
            let of = found.iter().find(|remedy| remedy.option.contains(option));
            of.unwrap_or_else(|| panic!("{option} is missing: {found:?}")).seconds
        };
        let near = |seconds: f64, expected: f64| (seconds - expected).abs() < 1e-9;
        // Without decoding, 32 ms of preparation, and the step's own 40 count.
        assert!(near(seconds("--cache-mib 2250"), 100.0 * (0.04 + 0.16)));
        // Half of the images, of the small size alone.
        assert!(near(seconds("--replay 2"), 100.0 * (0.064 + 0.16)));
        // 256 x 256 x 4 / 3 of 1024 x 768 pixels: a ninth of the decoding.
        let prepared = 512.0 * (1e-3 + 3e-3 / 9.0) / 16.0;
        assert!(near(seconds("--max-size 256"), 100.0 * (f64::max(0.04, prepared) + 0.16)));
        assert!(found.windows(2).all(|pair| pair[0].seconds <= pair[1].seconds));
    }

    #[test]
    fn nothing_is_advised_that_would_not_pay() {
        let gpu = Machine { cores: 16.0, workers: 16.0, on_gpu: true };
        assert_eq!(remedies(&[stage(0.2, true)], &gpu, &GIVEN), []);
        let used = Given { decodes_less: true, replays: true, ..GIVEN };
        let options: Vec<String> =
            remedies(&[stage(0.04, true)], &gpu, &used).into_iter().map(|remedy| remedy.option).collect();
        assert_eq!(options.len(), 1, "{options:?}");
        assert!(options[0].contains("--max-size"));
    }
}
