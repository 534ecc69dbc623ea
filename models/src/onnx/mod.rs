//! Models as ONNX files, for ONNX Runtime, TensorRT, OpenVINO and others.
//!
//! The graph follows from the ops that a pass says it runs ([`Op`](crate::Op)), so a model of your
//! own is written as well, if it is made of this crate's layers. It is in evaluation mode, at the
//! model's present input size and for any batch:
//!
//! - input `input`: images `[batch, channels, height, width]`, normalized as in training
//! - output `output`: logits `[batch, classes]`, or probabilities
//! - initializers have the names of the parameters; those of linear layers over tokens are
//!   transposed, `NAME.transposed`
//! - opset 17, in single precision
//!
//! ```
//! use candle_core::{DType, Device};
//! use efficienttrain_models::{ModelOptions, ParamStore, create_model, onnx};
//!
//! let model = create_model("resnet10", &ModelOptions { num_classes: 10, ..ModelOptions::default() })?;
//! let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu)?;
//! let bytes = onnx::export(&*model, &params, &onnx::OnnxOptions::default())?;
//! assert!(bytes.len() > 4 * 4_000_000);
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

mod attention;
mod graph;
mod nodes;
mod proto;

use prost::Message;

use self::graph::Builder;
use self::proto::{Entry, Model, OperatorSet, ValueInfo};
use crate::backbone::Backbone;
use crate::cost::traced;
use crate::params::ParamStore;
use crate::{Error, Result};

/// Name of the images that go in.
pub const INPUT: &str = "input";
/// Name of the logits or probabilities that come out.
pub const OUTPUT: &str = "output";

/// Version of the operators, of 2022: what every runtime in use knows.
const OPSET: i64 = 17;
/// Version of the file format that came with that opset.
const IR_VERSION: i64 = 8;

/// Output of an exported model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxOutput {
    /// The logits.
    #[default]
    Logits,
    /// Probabilities of classes that exclude each other.
    Softmax,
    /// A probability for each class by itself, for images with any number of labels.
    Sigmoid,
}

/// Options of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// The output.
    pub output: OnnxOutput,
    /// Entries of the file's metadata, such as the names of the classes.
    pub metadata: Vec<(String, String)>,
}

/// Returns the bytes of an ONNX file with the model at its present input size and the weights of
/// `params`, which may be on any device.
///
/// # Errors
/// When the model has an op without an ONNX form; when weights are missing or too large for the
/// format, which ends at 2 GiB.
pub fn export(model: &dyn Backbone, params: &ParamStore, options: &OnnxOptions) -> Result<Vec<u8>> {
    let mut builder = Builder::new(model, params);
    for op in &traced(model)? {
        builder.add(op)?;
    }
    let [height, width] = model.input_size();
    let input = ValueInfo::batched(INPUT, &[model.in_channels(), height, width]);
    let output = ValueInfo::batched(OUTPUT, &[model.num_classes()]);
    let file = Model {
        ir_version: IR_VERSION,
        producer_name: "efficienttrain".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(builder.finish(options.output, input, output)?),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: options
            .metadata
            .iter()
            .map(|(key, value)| Entry { key: key.clone(), value: value.clone() })
            .collect(),
    };
    if file.encoded_len() >= i32::MAX as usize {
        let what = format!("{} bytes are more than an ONNX file may have, 2 GiB", file.encoded_len());
        return Err(Error::Export { model: model.name().into(), what });
    }
    Ok(file.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use candle_core::{DType, Device};

    use super::*;
    use crate::graph::{Context, Op, Variable};
    use crate::layers::{Linear, flatten, global_avg_pool};
    use crate::params::{Init, ParamBuilder};
    use crate::{
        FeatureInfo, Macs, ModelInfo, ModelOptions, Resample, SavedForBackward, create_model, model_names,
    };

    fn graph(model: &dyn Backbone, options: &OnnxOptions) -> proto::Graph {
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
        let file = Model::decode(export(model, &params, options).unwrap().as_slice()).unwrap();
        assert_eq!(file.opset_import[0].version, OPSET);
        file.graph.unwrap()
    }

    /// Every name is written once and read after it is written, and nothing is written in vain.
    fn check(graph: &proto::Graph) {
        let mut known = BTreeSet::from([INPUT]);
        for tensor in &graph.initializer {
            assert!(known.insert(&tensor.name), "two initializers {}", tensor.name);
            let elements: i64 = tensor.dims.iter().product();
            let size = if tensor.data_type == proto::TensorData::FLOAT { 4 } else { 8 };
            assert_eq!(tensor.raw_data.len() as i64, size * elements, "{}", tensor.name);
        }
        for node in &graph.node {
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                assert!(known.contains(input.as_str()), "{} reads {input} too early", node.name);
            }
            for output in &node.output {
                assert!(known.insert(output), "{} writes {output} again", node.name);
            }
        }
        let read: BTreeSet<&str> =
            graph.node.iter().flat_map(|node| &node.input).map(String::as_str).chain([OUTPUT]).collect();
        let unread: Vec<&&str> = known.iter().filter(|name| !read.contains(**name)).collect();
        assert!(unread.is_empty(), "nothing reads {unread:?}");
    }

    #[test]
    fn graphs_of_all_models_are_sound_and_hold_every_parameter() {
        for name in model_names() {
            // Variants of one family differ in numbers alone.
            if !(name.contains("tiny") || name.contains("s18") || name.starts_with("resnet")) {
                continue;
            }
            let options = ModelOptions { num_classes: 3, input_size: [64, 64], ..ModelOptions::default() };
            let model = create_model(name, &options).unwrap();
            let graph = graph(&*model, &OnnxOptions::default());
            check(&graph);
            let held = |name: &str| {
                graph.initializer.iter().any(|t| {
                    t.name.strip_suffix(".transposed").or(t.name.strip_suffix(".by_pair")).unwrap_or(&t.name)
                        == name
                })
            };
            for spec in model.specs().iter().filter(|spec| spec.kind != crate::ParamKind::Counter) {
                assert!(held(&spec.name), "{name}: {} is not in the file", spec.name);
            }
        }
    }

    #[test]
    fn probabilities_are_the_last_node_if_asked_for() {
        let options = ModelOptions { num_classes: 3, input_size: [32, 32], ..ModelOptions::default() };
        let model = create_model("resnet10", &options).unwrap();
        for (output, last) in [(OnnxOutput::Softmax, "Softmax"), (OnnxOutput::Sigmoid, "Sigmoid")] {
            let graph = graph(&*model, &OnnxOptions { output, ..OnnxOptions::default() });
            check(&graph);
            assert_eq!(graph.node.last().unwrap().op_type, last);
        }
    }

    /// What a model of one's own has in it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Inside {
        KnownOps,
        ForeignOp,
        /// A tensor that is no value of an op.
        Constant,
    }

    #[derive(Clone, Debug)]
    struct Own {
        info: ModelInfo,
        head: Linear,
        inside: Inside,
    }

    impl Own {
        fn new(inside: Inside) -> Self {
            let mut b = ParamBuilder::default();
            let head = b.within("head", |b| Linear::new(b, 3, 5, Init::TRANSFORMER, Some(Init::Zeros)));
            let mut info = create_model("resnet10", &ModelOptions::default()).unwrap().info().clone();
            info = ModelInfo { name: "own".into(), specs: b.finish(), num_classes: 5, ..info };
            Self { info, head, inside }
        }
    }

    impl crate::Model for Own {
        fn info(&self) -> &ModelInfo {
            &self.info
        }

        fn resampling(&self, _: [usize; 2]) -> Result<Vec<Resample>> {
            Ok(Vec::new())
        }

        fn feature_info(&self) -> &[FeatureInfo] {
            &[]
        }
    }

    impl Backbone for Own {
        fn at_size(&self, _: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
            Ok((Box::new(self.clone()), Vec::new()))
        }

        fn feature_maps(&self, _: &mut Context, _: &Variable) -> Result<Vec<Variable>> {
            Ok(Vec::new())
        }

        fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
            let x = flatten(cx, images)?;
            if self.inside == Inside::ForeignOp {
                let op = Op::Custom { name: "sine", macs: Macs::None, saved: SavedForBackward::Nothing };
                let shape = x.dims().to_vec();
                return cx.apply(op, &[&x], &shape, |_| unreachable!("exporting runs nothing"));
            }
            if self.inside == Inside::Constant {
                let offset = Variable::constant(x.tensor().zeros_like()?);
                let x = crate::layers::add(cx, &x, &offset)?;
                return global_avg_pool(cx, &x);
            }
            global_avg_pool(cx, &x)
        }

        fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
            let pooled = self.inside != Inside::ForeignOp;
            let x = if pooled { features.clone() } else { global_avg_pool(cx, features)? };
            self.head.forward(cx, &x)
        }
    }

    #[test]
    fn a_model_of_ones_own_is_written_unless_it_has_something_foreign() {
        check(&graph(&Own::new(Inside::KnownOps), &OnnxOptions::default()));
        for (inside, expected) in [
            (Inside::ForeignOp, "the op sine has no ONNX form"),
            (Inside::Constant, "the op add of a parameter or constant has no ONNX form"),
        ] {
            let model = Own::new(inside);
            let params = ParamStore::init(&model.info.specs, 0, DType::F32, &Device::Cpu).unwrap();
            let error = export(&model, &params, &OnnxOptions::default()).unwrap_err().to_string();
            assert_eq!(error, format!("own cannot be exported: {expected}"));
        }
    }
}
