//! A parameter of the model on its way through loading.

use candle_core::Tensor;

use crate::params::ParamSpec;

/// A parameter and the tensor that the file has for it.
pub(super) struct Candidate<'a> {
    pub(super) spec: &'a ParamSpec,
    /// Its key in the file's spelling.
    pub(super) key: String,
    pub(super) tensor: Option<Tensor>,
    pub(super) adapted: bool,
    /// Keeps its value, whatever the file has.
    pub(super) kept: bool,
}

impl Candidate<'_> {
    /// Tells if the tensor has the model's shape, except for dimensions of 1.
    pub(super) fn fits(&self) -> bool {
        self.tensor.as_ref().is_some_and(|t| same_but_ones(t.dims(), &self.spec.shape))
    }
}

/// Tells if two shapes differ in dimensions of 1 only, so that the elements are in the same order.
pub(super) fn same_but_ones(a: &[usize], b: &[usize]) -> bool {
    let big = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    big(a) == big(b)
}
