//! candle-transformers' own ResNet, fed the same weights, agrees in evaluation.

mod common;

use candle_core::{DType, Device, ModuleT};
use candle_transformers::models::resnet;
use common::{golden_weights, max_difference, model_input, numbers};
use efficienttrain_models::{Options, create, predict};

#[test]
fn resnets_agree_with_candle_transformers() {
    type Build = fn(usize, candle_nn::VarBuilder) -> candle_core::Result<candle_nn::Func<'_>>;
    let cases: [(&str, Build); 4] = [
        ("resnet18", resnet::resnet18),
        ("resnet34", resnet::resnet34),
        ("resnet50", resnet::resnet50),
        ("resnet101", resnet::resnet101),
    ];
    for (name, build) in cases {
        let model =
            create(name, &Options { num_classes: 10, input_size: [64, 64], ..Options::default() }).unwrap();
        let params = golden_weights(name, model.specs(), DType::F64);
        let other = build(10, params.var_builder(DType::F64, &Device::Cpu)).unwrap();
        let x = model_input(9, 2, 64, 64).to_dtype(DType::F64).unwrap();
        let (ours, theirs) = (predict(&*model, &params, &x).unwrap(), other.forward_t(&x, false).unwrap());
        let off = max_difference(&numbers(&ours), &numbers(&theirs));
        assert!(off < 1e-9, "{name} is off by {off}");
    }
}
