//! The graph of an export while it grows: nodes, initializers, and where each value is.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};

use super::proto::{Attribute, Graph, Node, TensorData, ValueInfo};
use super::{INPUT, OUTPUT, OnnxOutput};
use crate::backbone::Backbone;
use crate::cost::TRACED_BATCH;
use crate::graph::Input;
use crate::params::{ParamId, ParamStore};
use crate::{Error, Result};

/// A value of the graph. A map is channels-last, channels-first or both, by what made it and what
/// has read it: this crate's ops are channels-last, and ONNX's convolutions channels-first.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Channels-last shape; the batch is [`BATCH`](TRACED_BATCH).
    pub(super) shape: Vec<usize>,
    /// Name, channels last, if it is there.
    last: Option<String>,
    /// Name, channels first.
    first: Option<String>,
}

/// Order of the dimensions of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    ChannelsLast,
    ChannelsFirst,
}

pub(super) struct Builder<'a> {
    model: &'a dyn Backbone,
    params: &'a ParamStore,
    nodes: Vec<Node>,
    initializers: Vec<TensorData>,
    known: BTreeSet<String>,
    image: Value,
    values: Vec<Value>,
    /// Layer that nodes are named after.
    scope: String,
}

impl<'a> Builder<'a> {
    pub(super) fn new(model: &'a dyn Backbone, params: &'a ParamStore) -> Self {
        let [height, width] = model.input_size();
        let shape = vec![TRACED_BATCH, height, width, model.in_channels()];
        let image = Value { shape, last: None, first: Some(INPUT.into()) };
        let (nodes, initializers, values) = (Vec::new(), Vec::new(), Vec::new());
        let (known, scope) = (BTreeSet::new(), String::new());
        Self { model, params, nodes, initializers, known, image, values, scope }
    }

    /// Ends the graph with the last value.
    pub(super) fn finish(
        mut self,
        probabilities: OnnxOutput,
        input: ValueInfo,
        output: ValueInfo,
    ) -> Result<Graph> {
        self.scope.clear();
        let last = Input::Op(self.values.len().wrapping_sub(1));
        if self.values.is_empty() {
            return Err(self.refused("a model without ops"));
        }
        let name = self.read(last, Layout::ChannelsLast);
        let name = match probabilities {
            OnnxOutput::Logits => name,
            OnnxOutput::Softmax => self.node("Softmax", &[&name], vec![Attribute::int("axis", -1)]),
            OnnxOutput::Sigmoid => self.node("Sigmoid", &[&name], Vec::new()),
        };
        let names = self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        names.filter(|other| **other == name).for_each(|other| *other = OUTPUT.into());
        self.prune();
        Ok(Graph {
            node: self.nodes,
            name: self.model.name().into(),
            initializer: self.initializers,
            input: vec![input],
            output: vec![output],
        })
    }

    /// Drops what the output does not need, such as the maps of a pyramid.
    fn prune(&mut self) {
        let mut needed = BTreeSet::from([OUTPUT.to_string()]);
        let mut kept: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..).rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.initializers.retain(|tensor| needed.contains(&tensor.name));
    }

    pub(super) fn refused(&self, what: &str) -> Error {
        let what = format!("{what} has no ONNX form");
        Error::Export { model: self.model.name().into(), what }
    }

    /// Names the nodes that follow after the layer of a parameter, if there is one.
    pub(super) fn enter(&mut self, inputs: &[Input]) {
        let layer = inputs.iter().find_map(|input| match input {
            Input::Parameter(id) => Some(self.param_name(*id)),
            _ => None,
        });
        let layer = layer.map_or("", |name| name.rsplit_once('.').map_or("", |(layer, _)| layer));
        self.scope = if layer.is_empty() { String::new() } else { format!("{layer}/") };
    }

    fn param_name(&self, id: ParamId) -> &'a str {
        let model = self.model;
        &model.specs()[id.index()].name
    }

    /// Adds a node with one output; returns the output's name.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        self.node_with(op, inputs, attributes, 1).swap_remove(0)
    }

    /// Adds a node; returns the names of its outputs.
    pub(super) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        attribute: Vec<Attribute>,
        outputs: usize,
    ) -> Vec<String> {
        let name = format!("{}{op}_{}", self.scope, self.nodes.len());
        let output: Vec<String> = (0..outputs).map(|i| format!("{name}_output_{i}")).collect();
        let input = inputs.iter().map(|&input| input.into()).collect();
        self.nodes.push(Node { input, output: output.clone(), name, op_type: op.into(), attribute });
        output
    }

    fn place(&mut self, input: Input) -> &mut Value {
        match input {
            Input::Op(index) => &mut self.values[index],
            _ => &mut self.image,
        }
    }

    /// Channels-last shape of an input.
    pub(super) fn shape(&self, input: Input) -> &[usize] {
        match input {
            Input::Image | Input::Constant => &self.image.shape,
            Input::Op(index) => &self.values[index].shape,
            Input::Parameter(id) => &self.model.specs()[id.index()].shape,
        }
    }

    /// Tells if all inputs are there in this layout.
    pub(super) fn are_in(&self, inputs: &[Input], layout: Layout) -> bool {
        inputs.iter().all(|input| {
            let value = match input {
                Input::Op(index) => &self.values[*index],
                _ => &self.image,
            };
            match layout {
                Layout::ChannelsLast => value.last.is_some(),
                Layout::ChannelsFirst => value.first.is_some(),
            }
        })
    }

    /// Name of an activation in a layout; transposes it if it is not there yet.
    pub(super) fn read(&mut self, input: Input, layout: Layout) -> String {
        let value = self.place(input).clone();
        let (there, other, order) = match layout {
            Layout::ChannelsLast => (value.last, value.first, [0, 2, 3, 1]),
            Layout::ChannelsFirst => (value.first, value.last, [0, 3, 1, 2]),
        };
        if let Some(name) = there {
            return name;
        }
        let other = other.unwrap_or_default();
        let name = self.transpose(&other, &order);
        let value = self.place(input);
        match layout {
            Layout::ChannelsLast => value.last = Some(name.clone()),
            Layout::ChannelsFirst => value.first = Some(name.clone()),
        }
        name
    }

    /// Notes the value of the next op.
    pub(super) fn push(&mut self, shape: &[usize], layout: Layout, name: String) {
        let (last, first) = match layout {
            Layout::ChannelsLast => (Some(name), None),
            Layout::ChannelsFirst => (None, Some(name)),
        };
        self.values.push(Value { shape: shape.to_vec(), last, first });
    }

    pub(super) fn transpose(&mut self, x: &str, order: &[usize]) -> String {
        self.node("Transpose", &[x], vec![Attribute::ints("perm", order)])
    }

    /// Keeps the batch, and gives what follows this shape.
    pub(super) fn reshape(&mut self, x: &str, sample: &[usize]) -> String {
        // 0 stands for the length that is there.
        let shape: Vec<i64> = [0].into_iter().chain(sample.iter().map(|&d| d as i64)).collect();
        self.reshape_to(x, &shape)
    }

    pub(super) fn reshape_to(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints("shape", shape);
        self.node("Reshape", &[x, &shape], Vec::new())
    }

    /// Places `start..end` of one axis, every `step`th.
    pub(super) fn slice(&mut self, x: &str, axis: usize, range: std::ops::Range<usize>) -> String {
        let start = self.ints("index", &[range.start as i64]);
        let end = self.ints("index", &[range.end as i64]);
        let axis = self.ints("index", &[axis as i64]);
        self.node("Slice", &[x, &start, &end, &axis], Vec::new())
    }

    pub(super) fn concat(&mut self, inputs: &[String], axis: i64) -> String {
        if let [only] = inputs {
            return only.clone();
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node("Concat", &inputs, vec![Attribute::int("axis", axis)])
    }

    /// A constant vector of integers, named after what it says.
    pub(super) fn ints(&mut self, kind: &str, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("{kind}.{}", words.join("_"));
        if self.known.insert(name.clone()) {
            self.initializers.push(TensorData::ints(name.clone(), values));
        }
        name
    }

    /// A constant number.
    pub(super) fn number(&mut self, value: f64) -> String {
        let value = value as f32;
        self.floats(&format!("number.{value:e}"), &[], &[value])
    }

    /// A constant; one of the same name is the same.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        if self.known.insert(name.into()) {
            self.initializers.push(TensorData::floats(name.into(), dims, values));
        }
        name.into()
    }

    /// A parameter under its name.
    pub(super) fn param(&mut self, input: Input) -> Result<String> {
        self.changed_param(input, "", |tensor| Ok(tensor.clone()))
    }

    /// A parameter, changed for the nodes that read it.
    pub(super) fn changed_param(
        &mut self,
        input: Input,
        suffix: &str,
        change: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<String> {
        let Input::Parameter(id) = input else { return Err(self.refused("an op with a computed weight")) };
        let name = format!("{}{suffix}", self.param_name(id));
        if self.known.insert(name.clone()) {
            let tensor = self.params.get(id).to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            let tensor = change(&tensor)?;
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            self.initializers.push(TensorData::floats(name.clone(), tensor.dims(), &values));
        }
        Ok(name)
    }
}
