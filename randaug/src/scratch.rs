//! Buffers that are kept from one image to the next.

use std::any::Any;

/// Working memory of all operations, so that a steady stream of images allocates nothing.
///
/// It holds no results: every call gives the same output with a new one. Keep one per worker.
///
/// ```
/// let mut scratch = randaug::Scratch::new();
/// let mut image = image::RgbImage::from_pixel(8, 8, image::Rgb([10, 20, 30]));
/// randaug::Op::Invert.apply(&mut image, 0.0, false, &mut scratch)?;
/// assert_eq!(image.get_pixel(0, 0).0, [245, 235, 225]);
/// # Ok::<(), randaug::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Scratch {
    /// One value of each type of buffers in use; each operation and policy defines its own type.
    slots: Vec<Box<dyn Any + Send + Sync>>,
}

impl Scratch {
    /// Creates empty buffers, which grow with use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lends the buffers of type `T` to `work`, and the rest of the scratch for nested calls.
    pub(crate) fn with<T, R>(&mut self, work: impl FnOnce(&mut T, &mut Self) -> R) -> R
    where
        T: Any + Default + Send + Sync,
    {
        let known = self.slots.iter().position(|slot| slot.is::<T>());
        let mut slot = known.map_or_else(|| Box::<T>::default() as _, |index| self.slots.swap_remove(index));
        let buffers = slot.downcast_mut().expect("the slot was found, or made, by its type");
        let result = work(buffers, self);
        self.slots.push(slot);
        result
    }
}
