//! Parameters: an ordered list of named specifications, and the tensors that fill them.
//!
//! A model is pure structure: it describes its parameters ([`ParamSpec`]) and reads their values
//! from a [`ParamStore`] at each pass. So the same model runs with the weights of a moving average,
//! of another seed, or of a file, and an optimizer walks the store in a fixed order.

mod builder;
pub(crate) mod init;
mod store;
mod var_builder;

pub use builder::ParamBuilder;
pub use init::Init;
pub(crate) use init::generator;
pub use store::ParamStore;
pub(crate) use store::summary;

/// Position of a parameter or buffer in its model's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) usize);

impl ParamId {
    /// Index into [`crate::Model::specs`] and into a [`ParamStore`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Role of a tensor of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Trained by gradients.
    Parameter,
    /// State that training updates by other means (running statistics).
    Buffer,
    /// A counter, kept as one `i64`.
    Counter,
}

/// Name, shape and first value of one tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name as in timm or torchvision, e.g. `layer1.0.conv1.weight`.
    pub name: String,
    /// Shape; it may depend on the model's input size.
    pub shape: Vec<usize>,
    /// Parameter or buffer.
    pub kind: ParamKind,
    /// First value.
    pub init: Init,
    /// Apply weight decay. One-dimensional parameters and those that the model exempts do not
    /// decay.
    pub decay: bool,
    /// Depth for layer-wise decay of the learning rate: 0 for the stem, the highest for the head.
    pub layer: usize,
}
