//! The training and evaluation sets of a configuration.

use std::sync::Arc;

use crate::config::TrainConfig;
use crate::data::{Source, Split, Synthetic, open_split};
use crate::error::Result;

/// The two sets of a run.
#[derive(Clone)]
pub struct Sources {
    /// Images to train on.
    pub train: Arc<dyn Source>,
    /// Images to evaluate on, with the same classes.
    pub val: Arc<dyn Source>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Sources({} training, {} evaluation images)", self.train.len(), self.val.len())
    }
}

impl Sources {
    /// Opens the two splits of `--data`, of whatever kind they are, or makes the synthetic set.
    ///
    /// # Errors
    /// When a split is missing, empty or damaged, or the two do not have the same classes.
    pub fn open(config: &TrainConfig) -> Result<Self> {
        if let Some(dir) = &config.data {
            let train = open_split(dir, Split::Train, None, config.image_limit())?;
            let val = open_split(dir, Split::Val, Some(train.classes()), config.image_limit())?;
            return Ok(Self { train, val });
        }
        // Half as large again as the training size, as photographs are larger than their crops.
        let edge = (config.base_size * 3 / 2).max(48);
        let images = config.synthetic_images;
        let train = Synthetic::new(config.seed, Split::Train, images, edge)?;
        let val = Synthetic::new(config.seed, Split::Val, (images / 4).max(10), edge)?;
        Ok(Self { train: Arc::new(train), val: Arc::new(val) })
    }
}
