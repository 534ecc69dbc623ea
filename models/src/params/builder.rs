//! Collects the parameters of a model while its layers are made.

use super::{Init, ParamId, ParamKind, ParamSpec};

/// The growing parameter list of a model, and the name prefix of the layer being made.
///
/// Layers call [`Self::parameter`] in the order in which timm registers them; [`Self::within`]
/// descends one level of names.
#[derive(Debug, Default)]
pub struct ParamBuilder {
    specs: Vec<ParamSpec>,
    prefix: Vec<String>,
    layer: usize,
}

impl ParamBuilder {
    /// Starts a list that continues the parameters of a backbone, for heads that share its store.
    pub fn following(specs: &[ParamSpec]) -> Self {
        Self {
            specs: specs.to_vec(),
            layer: specs.iter().map(|s| s.layer).max().unwrap_or(0),
            ..Self::default()
        }
    }

    /// Runs `build` with `name` (a word or a block's number) appended to the prefix.
    pub fn within<R>(&mut self, name: impl ToString, build: impl FnOnce(&mut Self) -> R) -> R {
        self.prefix.push(name.to_string());
        let result = build(self);
        self.prefix.pop();
        result
    }

    /// Parameters added from here on belong to this layer, for layer-wise decay of the learning
    /// rate.
    pub fn layer(&mut self, layer: usize) -> &mut Self {
        self.layer = layer;
        self
    }

    /// Adds a parameter; weight decay applies if it has two or more dimensions.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> ParamId {
        self.push(name, shape, ParamKind::Parameter, init, shape.len() > 1)
    }

    /// Adds a parameter without weight decay (position embeddings, class tokens).
    pub fn undecayed(&mut self, name: &str, shape: &[usize], init: Init) -> ParamId {
        self.push(name, shape, ParamKind::Parameter, init, false)
    }

    /// Adds a buffer.
    pub fn buffer(&mut self, name: &str, shape: &[usize], init: Init) -> ParamId {
        self.push(name, shape, ParamKind::Buffer, init, false)
    }

    /// Adds a counter.
    pub fn counter(&mut self, name: &str) -> ParamId {
        self.push(name, &[], ParamKind::Counter, Init::Zeros, false)
    }

    /// The finished list.
    pub fn finish(self) -> Vec<ParamSpec> {
        self.specs
    }

    fn push(&mut self, name: &str, shape: &[usize], kind: ParamKind, init: Init, decay: bool) -> ParamId {
        let mut parts = self.prefix.clone();
        parts.push(name.to_string());
        self.specs.push(ParamSpec {
            name: parts.join("."),
            shape: shape.to_vec(),
            kind,
            init,
            decay,
            layer: self.layer,
        });
        ParamId(self.specs.len() - 1)
    }
}
