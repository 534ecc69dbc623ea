//! Names of models, and stores by name.

use super::*;

#[test]
fn names_and_weights_that_do_not_fit_are_errors_that_name_them() {
    let unknown = create_model("resnet81", &ModelOptions::default()).unwrap_err().to_string();
    assert!(unknown.contains("did you mean `resnet18`"), "{unknown}");
    for (spelling, name) in [
        ("DeiT_small_patch16_224", "deit_small"),
        ("swin-tiny", "swin_tiny"),
        ("swin_base_patch4_window7_224.ms_in1k", "swin_base"),
        ("CSWin_96_24322_base_224", "cswin_base"),
        ("caformer_s18.sail_in1k", "caformer_s18"),
    ] {
        assert_eq!(create_model(spelling, &ModelOptions::default()).unwrap().name(), name);
    }
    let near = create_model("swin_tiny_patch4_window7", &ModelOptions::default()).unwrap_err().to_string();
    assert!(near.contains("did you mean `swin_tiny`"), "{near}");
    assert!(
        create_model(
            "resnet18",
            &ModelOptions { num_classes: 2, input_size: [0, 32], ..ModelOptions::default() }
        )
        .is_err()
    );

    let model = create_model(
        "resnet10",
        &ModelOptions { num_classes: 2, input_size: [32, 32], ..ModelOptions::default() },
    )
    .unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let mut tensors: std::collections::HashMap<String, Tensor> =
        params.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
    let load = |t: &std::collections::HashMap<String, Tensor>| {
        ParamStore::from_tensors("resnet10", model.specs(), t, DType::F32, &Device::Cpu)
    };
    tensors.remove("bn1.num_batches_tracked");
    assert!(load(&tensors).is_ok(), "counters may be missing, as in old files");
    let fc = tensors.remove("fc.weight").unwrap();
    tensors.insert("fc.bias".into(), fc);
    tensors.insert("head.weight".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let message = load(&tensors).unwrap_err().to_string();
    for part in
        ["missing `fc.weight`", "`fc.bias` has shape [2, 512], expected [2]", "unexpected `head.weight`"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_candle_var_builder_reads_the_store() {
    let model = create_model(
        "resnet10",
        &ModelOptions { num_classes: 2, input_size: [32, 32], ..ModelOptions::default() },
    )
    .unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let builder = params.var_builder(DType::F32, &Device::Cpu);
    let fc = candle_nn::linear(512, 2, builder.pp("fc")).unwrap();
    let off = max_difference(&numbers(fc.weight()), &numbers(params.by_name("fc.weight").unwrap()));
    assert_eq!(off, 0.0);
    assert!(builder.pp("fc").get((3, 512), "weight").is_err());
}
