//! Retention of checkpoints: the last and the best ones of a run.

use std::path::Path;

use crate::checkpoint::folder::{BEST, KEPT, LAST, file_names, kept_name, kept_step};
use crate::error::{Error, Result};
use crate::util::atomic_file::link;

/// Rule for retaining checkpoints besides the newest one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Number of newest checkpoints.
    pub(crate) last: usize,
    /// Number of checkpoints with the best evaluations.
    pub(crate) best: usize,
}

/// Links the newest checkpoint, of `step`, among the retained ones, and removes those that are no
/// longer retained.
pub(crate) fn link_retained(folder: &Path, retention: Retention, step: u64, ranking: &[u64]) -> Result<()> {
    let (path, kept) = (folder.join(LAST), folder.join(KEPT));
    if retention.last > 1 {
        link(&path, &kept.join(kept_name("step", step)))?;
        let mut steps = steps_of(&kept, "step")?;
        steps.sort_unstable_by(|a, b| b.cmp(a));
        // Checkpoints of later steps remain from before the run was resumed from an older one.
        let (later, steps): (Vec<u64>, Vec<u64>) = steps.into_iter().partition(|&other| other > step);
        remove(&kept, "step", later.into_iter().chain(steps.into_iter().skip(retention.last)))?;
    }
    if retention.best > 0 && ranking.contains(&step) {
        keep_best(folder, step, retention.best, ranking)?;
    }
    Ok(())
}

/// Links the checkpoint among the best ones if it is one of them.
fn keep_best(folder: &Path, step: u64, count: usize, ranking: &[u64]) -> Result<()> {
    let kept = folder.join(KEPT);
    let mut steps = steps_of(&kept, "best")?;
    if !steps.contains(&step) {
        steps.push(step);
    }
    let rank = |step: &u64| ranking.iter().position(|other| other == step).unwrap_or(usize::MAX);
    steps.sort_by_key(rank);
    if steps.iter().take(count).any(|&best| best == step) {
        link(&folder.join(LAST), &kept.join(kept_name("best", step)))?;
        link(&kept.join(kept_name("best", steps[0])), &folder.join(BEST))?;
    }
    remove(&kept, "best", steps.into_iter().skip(count).filter(|&other| other != step))
}

fn steps_of(folder: &Path, kind: &str) -> Result<Vec<u64>> {
    Ok(file_names(folder)?.iter().filter_map(|name| kept_step(kind, name)).collect())
}

fn remove(folder: &Path, kind: &str, steps: impl Iterator<Item = u64>) -> Result<()> {
    for step in steps {
        let path = folder.join(kept_name(kind, step));
        std::fs::remove_file(&path).map_err(Error::io(&path))?;
    }
    Ok(())
}
