//! Seeds of a run: of weights, order and augmentation, and of the images it trains on.

use crate::config::images::ImagesPerClass;
use crate::config::train::TrainConfig;

impl TrainConfig {
    /// Returns the seed that selects the images of `images_per_class`.
    pub fn images_seed(&self) -> u64 {
        self.images_per_class.and_then(|of| of.seed).unwrap_or(self.seed)
    }

    /// Returns the same run with another seed of weights, order and augmentation, on the same
    /// images.
    #[must_use]
    pub(crate) fn with_seed(&self, seed: u64) -> Self {
        let chosen = self.images_seed();
        let own = (chosen != seed).then_some(chosen);
        let images_per_class = self.images_per_class.map(|of| ImagesPerClass { seed: own, ..of });
        Self { seed, images_per_class, ..self.clone() }
    }
}
