//! Cache of recently used pages, so that reading in order decompresses each page once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest memory of cached pages, in bytes; the newest page is kept even if it is larger.
const MAX_BYTES: usize = 128 << 20;
/// Largest number of cached pages, which keeps lookups short.
const MAX_PAGES: usize = 256;

/// Values of one page; none for a null.
#[derive(Debug)]
pub(crate) struct Values<T> {
    pub(crate) values: Vec<Option<T>>,
    /// Memory of the values, in bytes.
    pub(crate) bytes: usize,
}

/// A page that is or will be decompressed.
type Slot<T> = Arc<Mutex<Option<Arc<Values<T>>>>>;

/// Pages by number, the newest first.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    kept: Mutex<VecDeque<Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    page: usize,
    slot: Slot<T>,
    /// Memory of the page, once known.
    bytes: usize,
}

impl<T> Cache<T> {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::default() }
    }

    /// Returns page number `page`, decompressed by `unpack` if it is not cached. Threads that ask
    /// for the same page wait for the first of them; others do not. Failures are not cached.
    pub(crate) fn get(
        &self,
        page: usize,
        unpack: impl FnOnce() -> Result<Values<T>, String>,
    ) -> Result<Arc<Values<T>>, String> {
        let slot = self.slot(page);
        let mut content = own(&slot);
        if let Some(values) = &*content {
            return Ok(values.clone());
        }
        let values = Arc::new(unpack()?);
        *content = Some(values.clone());
        drop(content);
        self.weigh(page, values.bytes);
        Ok(values)
    }

    fn slot(&self, page: usize) -> Slot<T> {
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

    fn page(number: usize, bytes: usize) -> Values<usize> {
        Values { values: vec![Some(number), None], bytes }
    }

    /// Returns true if page `number` has to be decompressed.
    fn is_new(cache: &Cache<usize>, number: usize, bytes: usize) -> bool {
        let mut asked = false;
        let content = cache
            .get(number, || {
                asked = true;
                Ok(page(number, bytes))
            })
            .unwrap();
        assert_eq!(content.values, [Some(number), None]);
        asked
    }

    #[test]
    fn the_newest_pages_are_kept_within_the_bound() {
        let cache = Cache::new();
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
        let cache = Cache::new();
        assert_eq!(cache.get(1, || Err("no".into())).unwrap_err(), "no");
        assert!(is_new(&cache, 1, 5) && !is_new(&cache, 1, 5));
    }
}
