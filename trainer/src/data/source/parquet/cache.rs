//! The pages that were used last, so that reading in order unpacks each once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::parquet::data_type::ByteArray;

use crate::data::source::parquet::page::Values;

/// Memory that kept pages may take; the newest is kept whatever it takes.
const MAX_BYTES: usize = 128 << 20;
/// Pages that are kept at most, so that looking for one stays short.
const MAX_PAGES: usize = 256;

/// The images of one page.
pub(crate) type Images = Values<ByteArray>;

/// A page that is being unpacked, or has been.
type Slot = Arc<Mutex<Option<Arc<Images>>>>;

/// Keeps pages by number, the newest in front.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    page: usize,
    slot: Slot,
    /// What it takes, once that is known.
    bytes: usize,
}

impl Cache {
    /// Page number `page`, by `unpack` if it is not kept. Threads that ask for the same page wait for the first of them;
    /// others do not. A failure is not kept.
    pub(crate) fn get(
        &self,
        page: usize,
        unpack: impl FnOnce() -> Result<Images, String>,
    ) -> Result<Arc<Images>, String> {
        let slot = self.slot(page);
        let mut content = own(&slot);
        if let Some(images) = &*content {
            return Ok(images.clone());
        }
        let images = Arc::new(unpack()?);
        *content = Some(images.clone());
        drop(content);
        self.weigh(page, images.bytes);
        Ok(images)
    }

    fn slot(&self, page: usize) -> Slot {
        let mut kept = own(&self.kept);
        let found = kept.iter().position(|k| k.page == page).and_then(|at| kept.remove(at));
        let entry = found.unwrap_or_else(|| Kept { page, slot: Slot::default(), bytes: 0 });
        let slot = entry.slot.clone();
        kept.push_front(entry);
        kept.truncate(MAX_PAGES);
        slot
    }

    /// Notes what a page takes, and lets go of the oldest that are too many.
    fn weigh(&self, page: usize, bytes: usize) {
        let mut kept = own(&self.kept);
        if let Some(entry) = kept.iter_mut().find(|k| k.page == page) {
            entry.bytes = bytes;
        }
        let mut total: usize = kept.iter().map(|k| k.bytes).sum();
        while total > MAX_BYTES && kept.len() > 1 {
            total -= kept.pop_back().map_or(0, |oldest| oldest.bytes);
        }
    }
}

/// What a lock guards; a panic elsewhere leaves it as usable as it was.
fn own<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Images {
        Values { values: Vec::new(), bytes }
    }

    /// Whether page `number` has to be unpacked.
    fn is_new(cache: &Cache, number: usize, bytes: usize) -> bool {
        let mut asked = false;
        cache
            .get(number, || {
                asked = true;
                Ok(page(bytes))
            })
            .unwrap();
        asked
    }

    #[test]
    fn the_newest_pages_are_kept_within_the_bound() {
        let cache = Cache::default();
        let third = MAX_BYTES / 3;
        assert!((0..3).all(|n| is_new(&cache, n, third)));
        assert!((0..3).all(|n| !is_new(&cache, n, third)));
        // The fourth drives out the one that was not used longest.
        assert!(!is_new(&cache, 0, third) && is_new(&cache, 3, third));
        assert!(!is_new(&cache, 0, third) && is_new(&cache, 1, third));
        // One that is too large alone is kept while it is the newest.
        assert!(is_new(&cache, 9, MAX_BYTES + 1) && !is_new(&cache, 9, 0) && is_new(&cache, 0, third));
    }

    #[test]
    fn a_failure_is_tried_again() {
        let cache = Cache::default();
        assert_eq!(cache.get(1, || Err("no".into())).unwrap_err(), "no");
        assert!(is_new(&cache, 1, 5) && !is_new(&cache, 1, 5));
    }
}
