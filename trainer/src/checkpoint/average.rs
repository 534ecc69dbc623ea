//! Averages of the checkpoints of a run.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use efficienttrain_models::weights::Tensors;

use crate::checkpoint::folder::{KEPT, file_names, kept_step};
use crate::checkpoint::read::Checkpoint;
use crate::error::{Error, Result};

impl Checkpoint {
    /// Reads the newest `count` of the checkpoints that the run of `path` has kept, and returns the
    /// newest with the mean of their weights (of their moving averages if `ema`) as its only ones.
    /// Running statistics are averaged too, and counters are those of the newest.
    ///
    /// # Errors
    /// Returns an error if the run has not kept as many, or they differ in shapes because they are
    /// of different stages.
    pub fn average(path: &Path, count: usize, ema: bool) -> Result<Self> {
        let files = newest_kept(path, count)?;
        let mut files = files.iter();
        let Some(newest) = files.next() else {
            return Err(Error::config("average", "expected 1 checkpoint or more"));
        };
        let newest = Self::open(newest)?;
        let mut sum: Vec<(String, Tensor, DType)> = Vec::new();
        for (name, tensor) in newest.weights(ema)? {
            let dtype = tensor.dtype();
            sum.push((name, if dtype.is_float() { tensor.to_dtype(DType::F64)? } else { tensor }, dtype));
        }
        for file in files {
            let other = Self::open(file)?;
            let weights = other.weights(ema)?;
            for (name, tensor, _) in sum.iter_mut().filter(|(_, _, dtype)| dtype.is_float()) {
                let same = weights.get(name).filter(|own| own.dims() == tensor.dims());
                let Some(own) = same else {
                    let what = format!(
                        "has no `{name}` of the shape {:?}, as {} has; average fewer checkpoints",
                        tensor.dims(),
                        newest.path().display()
                    );
                    return Err(other.error(what));
                };
                *tensor = (&*tensor + own.to_dtype(DType::F64)?)?;
            }
        }
        let mean = |(name, tensor, dtype): (String, Tensor, DType)| {
            let tensor = if dtype.is_float() { (tensor / count as f64)?.to_dtype(dtype)? } else { tensor };
            Ok((name, tensor))
        };
        Ok(newest.with_weights(sum.into_iter().map(mean).collect::<Result<Tensors>>()?))
    }
}

/// Returns the newest checkpoints of the run that a file belongs to, the newest first.
fn newest_kept(path: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let kept = if folder.ends_with(KEPT) { folder.to_path_buf() } else { folder.join(KEPT) };
    let mut steps: Vec<(u64, String)> =
        file_names(&kept)?.into_iter().filter_map(|name| Some((kept_step("step", &name)?, name))).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    if steps.len() < count {
        let what = format!(
            "expected {count} checkpoints `step-*.safetensors` in {}, found {}; average fewer, or train with option \
             `keep-last` {count}",
            kept.display(),
            steps.len()
        );
        return Err(Error::config("average", what));
    }
    Ok(steps.into_iter().take(count).map(|(_, name)| kept.join(name)).collect())
}
