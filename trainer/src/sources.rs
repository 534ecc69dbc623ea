//! The training and evaluation sets of a configuration.

use std::sync::Arc;

use crate::config::TrainConfig;
use crate::data::{Source, Split, Subset, Synthetic, open_split};
use crate::error::{Error, Result};

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
    /// Opens the two splits of `--data`, of whatever kind they are, or makes the synthetic set; of the training images,
    /// those of `--images-per-class`.
    ///
    /// # Errors
    /// When a split is missing, empty or damaged, the two do not have the same classes, or a class has too few images.
    pub fn open(config: &TrainConfig) -> Result<Self> {
        let whole = Self::whole(config)?;
        let Some(of_class) = config.images_per_class else { return Ok(whole) };
        let subset = Subset::per_class(whole.train, of_class.images.get() as usize, config.images_seed())
            .map_err(|error| Error::config("images-per-class", format!("{error}; ask for fewer")))?;
        Ok(Self { train: Arc::new(subset), val: whole.val })
    }

    fn whole(config: &TrainConfig) -> Result<Self> {
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
