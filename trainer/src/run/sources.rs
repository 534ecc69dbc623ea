//! Training and evaluation sets of a configuration.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::record::RunRecord;
use crate::config::train::TrainConfig;
use crate::data::source::Source;
use crate::data::source::open::{
    OpenOptions, has_split, open_for_evaluation, open_plain, open_split, open_unlabeled,
};
use crate::data::source::subset::Subset;
use crate::data::source::synthetic::{Split, Synthetic};
use crate::error::{Error, Result};
use crate::hub::data_folder;
use crate::util::paths::shown;

/// Both sets of a run.
#[derive(Clone)]
pub struct Sources {
    /// Training images.
    pub train: Arc<dyn Source>,
    /// Evaluation images, with the same classes.
    pub val: Arc<dyn Source>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Sources({} training, {} evaluation images)", self.train.len(), self.val.len())
    }
}

impl Sources {
    /// Opens the two splits of `--data`, of any kind, or generates the built-in set. Selects the
    /// training images by `--images-per-class`. With `--val-share`, a part of the training images
    /// replaces the second split.
    ///
    /// # Errors
    /// Returns an error if a split is missing, empty or damaged, the two have different classes, or
    /// a class has too few images.
    pub fn open(config: &TrainConfig) -> Result<Self> {
        Self::open_as(config, None)
    }

    /// Opens the data of an earlier run, like [`Self::open`]. Labels are positions in the run's
    /// classes, whatever folders exist now.
    ///
    /// # Errors
    /// Same as [`Self::open`]; also if an image belongs to a class that the run did not have.
    pub fn of_run(run: &RunRecord) -> Result<Self> {
        Self::open_as(&run.config, Some(&run.classes))
    }

    /// Opens the evaluation images for the model of a run: those of `data`, or the run's own.
    /// Labels are positions in the run's classes.
    ///
    /// # Errors
    /// Same as [`Self::of_run`].
    pub fn evaluation(run: &RunRecord, data: Option<&Path>) -> Result<Arc<dyn Source>> {
        let (options, classes) = (open_options(&run.config), &run.classes);
        match (data, &run.config) {
            (Some(dir), _) => Ok(open_for_evaluation(&data_folder(dir)?, classes, options)?),
            // The training images are not needed.
            (None, TrainConfig { data: Some(dir), val_share: None, target: None, .. }) => {
                let dir = &*data_folder(dir)?;
                check_there(dir)?;
                Ok(open_split(dir, Split::Val, Some(classes), options)?)
            }
            _ => Ok(Self::of_run(run)?.val),
        }
    }

    fn open_as(config: &TrainConfig, classes: Option<&[String]>) -> Result<Self> {
        let whole = Self::whole(config, classes)?;
        let Some(of_class) = config.images_per_class else { return Ok(whole) };
        let subset = Subset::per_class(whole.train, of_class.images.get() as usize, config.images_seed())
            .map_err(|error| Error::config("images-per-class", format!("{error}; ask for fewer")))?;
        Ok(Self { train: Arc::new(subset), val: whole.val })
    }

    fn whole(config: &TrainConfig, classes: Option<&[String]>) -> Result<Self> {
        let Some(dir) = &config.data else { return Self::synthetic(config) };
        let dir = &*data_folder(dir)?;
        check_there(dir)?;
        config.check_val_share()?;
        if config.target.is_some() && config.val_share.is_none() {
            return Self::unlabeled(dir, open_options(config));
        }
        match config.val_share {
            Some(share) => Self::held_out(dir, share, classes, open_options(config)),
            None => {
                let train = open_split(dir, Split::Train, classes, open_options(config))?;
                let val = open_split(dir, Split::Val, Some(train.classes()), open_options(config))?;
                Ok(Self { train, val })
            }
        }
    }

    /// Returns the images of `dir` without a part of each class, and that part.
    fn held_out(dir: &Path, share: f64, classes: Option<&[String]>, options: OpenOptions) -> Result<Self> {
        if has_split(dir, Split::Val)? {
            let what = format!("{} has a val split; leave this out to evaluate on it", dir.display());
            return Err(Error::config("val-share", what));
        }
        let whole = match has_split(dir, Split::Train)? {
            true => open_split(dir, Split::Train, classes, options)?,
            false => open_plain(dir, classes, options)?,
        };
        let (train, val) = Subset::hold_out(&whole, share)
            .map_err(|error| Error::config("val-share", format!("{error}; add some or remove the class")))?;
        Ok(Self { train: Arc::new(train), val: Arc::new(val) })
    }

    /// Opens images without labels. Nothing is evaluated, so a second split is not required.
    fn unlabeled(dir: &Path, options: OpenOptions) -> Result<Self> {
        let train = open_unlabeled(dir, options)?;
        let val = match has_split(dir, Split::Val)? {
            true => open_split(dir, Split::Val, Some(train.classes()), options)?,
            false => train.clone(),
        };
        Ok(Self { train, val })
    }

    fn synthetic(config: &TrainConfig) -> Result<Self> {
        // One and a half times the training size, like photographs, which are larger than their
        // crops.
        let edge = (config.base_size * 3 / 2).max(48);
        let images = config.synthetic_images;
        let train = Synthetic::new(config.seed, Split::Train, images, edge)?;
        let val = Synthetic::new(config.seed, Split::Val, (images / 4).max(10), edge)?;
        Ok(Self { train: Arc::new(train), val: Arc::new(val) })
    }
}

/// Returns how the data set of a configuration is opened.
fn open_options(config: &TrainConfig) -> OpenOptions {
    OpenOptions { limit: config.image_limit(), multi_label: config.multi_label }
}

fn check_there(dir: &Path) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let what = format!("{}: no such folder; if it was moved, give its new location", shown(dir));
    Err(Error::config("data", what))
}
