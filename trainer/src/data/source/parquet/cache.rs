//! Cache of recently used pages, so that reading in order decompresses each page once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::parquet::data_type::ByteArray;

use crate::data::source::parquet::page::Values;

/// Largest memory of cached pages, in bytes; the newest page is kept even if it is larger.
const MAX_BYTES: usize = 128 << 20;
/// Largest number of cached pages, which keeps lookups short.
const MAX_PAGES: usize = 256;

/// The images of one page.
pub(crate) type Images = Values<ByteArray>;

/// A page that is or will be decompressed.
type Slot = Arc<Mutex<Option<Arc<Images>>>>;

/// Pages by number, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    page: usize,
    slot: Slot,
    /// Memory of the page, once known.
    bytes: usize,
}

impl Cache {
    /// Returns page number `page`, decompressed by `unpack` if it is not cached. Threads that ask
    /// for the same page wait for the first of them; others do not. Failures are not cached.
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

    /// Records the memory of a page and drops the oldest pages above the limits.
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

/// Locks a mutex; a panic in another thread leaves its data usable.
fn own<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Images {
        Values { values: Vec::new(), bytes }
    }

    /// Returns true if page `number` has to be decompressed.
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
        // The fourth page replaces the least recently used one.
        assert!(!is_new(&cache, 0, third) && is_new(&cache, 3, third));
        assert!(!is_new(&cache, 0, third) && is_new(&cache, 1, third));
        // A page above the limit is kept while it is the newest.
        assert!(is_new(&cache, 9, MAX_BYTES + 1) && !is_new(&cache, 9, 0) && is_new(&cache, 0, third));
    }

    #[test]
    fn a_failure_is_tried_again() {
        let cache = Cache::default();
        assert_eq!(cache.get(1, || Err("no".into())).unwrap_err(), "no");
        assert!(is_new(&cache, 1, 5) && !is_new(&cache, 1, 5));
    }
}
