//! What NVIDIA's libraries make, and how it is given back.

/// A type for a handle or a description, which `destroy` gives back when it is dropped.
macro_rules! handle {
    ($name:ident, $raw:ty, $destroy:path) => {
        struct $name($raw);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by the library, and given back once. Nothing is to be done about an error here.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}
pub(super) use handle;
