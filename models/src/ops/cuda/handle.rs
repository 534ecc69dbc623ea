//! Handles of NVIDIA's libraries, which are destroyed when they are dropped.

/// Defines a type for a handle or a descriptor, which calls `destroy` when it is dropped.
macro_rules! handle {
    ($name:ident, $raw:ty, $destroy:path) => {
        struct $name($raw);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by the library, and given back once. Nothing is to be done about an
                // error here.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}
pub(super) use handle;
