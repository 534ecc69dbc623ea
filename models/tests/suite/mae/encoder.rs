//! The encoder: positions, weights for DeiT, decay and cost.

use super::*;

#[test]
fn positions_share_the_extent_of_the_base_size() {
    let table = |grid: [usize; 2], base: [usize; 2]| numbers(&sincos_positions(grid, base, 8).unwrap());
    // The middle of a 3x3 grid is where the middle of a 9x9 grid is.
    assert!(
        max_difference(&table([3, 3], [9, 9])[4 * 8..][..8], &table([9, 9], [9, 9])[40 * 8..][..8]) < 1e-12
    );
    // A grid of 2 over a base of 4: places 0.5 and 2.5. Columns first, frequencies 1 and 1/100.
    let second = &table([1, 2], [1, 4])[8..];
    let expected = [2.5f64.sin(), 0.025f64.sin(), 2.5f64.cos(), 0.025f64.cos(), 0.0, 0.0, 1.0, 1.0];
    assert!(max_difference(second, &expected) < 1e-15);
    assert!(sincos_positions([2, 2], [2, 2], 6).is_err());
}

#[test]
fn encoders_load_into_deit() {
    for (name, deit) in [("mae_tiny", "deit_tiny"), ("mae_small", "deit_small"), ("mae_base", "deit_base")] {
        let options = MaeOptions {
            input_size: [32, 48],
            decoder: Some(TransformerShape { width: 64, heads: 2, depth: 1 }),
            ..MaeOptions::default()
        };
        let model = Mae::new(name, &options).unwrap();
        let params = ParamStore::init(model.specs(), 3, DType::F64, &Device::Cpu).unwrap();
        let options = ModelOptions { num_classes: 5, input_size: [32, 48], ..ModelOptions::default() };
        let vit = create_model(deit, &options).unwrap();
        let mut tuned = ParamStore::init(vit.specs(), 4, DType::F64, &Device::Cpu).unwrap();
        let tensors = model.encoder_weights(&params).unwrap();
        let adapt = weights::LoadOptions { adapt_head: true, ..Default::default() };
        let report = weights::load_into(&*vit, &mut tuned, &tensors, &adapt).unwrap();
        assert_eq!(report.reinitialized, ["head.weight", "head.bias"]);
        assert_eq!(report.loaded.len(), vit.specs().len() - 2);
        assert!(report.missing.is_empty() && report.unexpected.is_empty());
        // With nothing removed the two are one network: the class token is DeiT's feature. Tokens
        // come in another order.
        let images = model_input(2, 1, 32, 48).to_dtype(DType::F64).unwrap();
        let images = Variable::constant(channels_last(&images));
        let whole = Masking::draw(&[11], 6, 0.0).unwrap();
        let encoded = model.encode(&mut Context::new(&params, Mode::Eval), &images, &whole).unwrap();
        let features = vit.features(&mut Context::new(&tuned, Mode::Eval), &images).unwrap();
        let width = features.dims()[1];
        let class = &numbers(encoded.tensor())[..width];
        assert!(max_difference(class, &numbers(features.tensor())) < 1e-10, "{name}");
        // At another size the positions are resampled, as DeiT's own.
        let other = create_model(
            deit,
            &ModelOptions { num_classes: 5, input_size: [64, 64], ..ModelOptions::default() },
        )
        .unwrap();
        let mut store = ParamStore::init(other.specs(), 4, DType::F32, &Device::Cpu).unwrap();
        let square = Mae::new(name, &MaeOptions { input_size: [32, 32], ..*model.options() }).unwrap();
        let square = square.at_size([96, 96]).unwrap();
        let adapt = weights::LoadOptions { adapt_size: true, ..adapt };
        let tensors = square.encoder_weights(&params).unwrap();
        let report = weights::load_into(&*other, &mut store, &tensors, &adapt).unwrap();
        assert_eq!(report.adapted, ["pos_embed"]);
    }
}

#[test]
fn encoder_parameters_decay_and_layer_as_deit_does() {
    let model = Mae::new("mae_small", &MaeOptions::default()).unwrap();
    let vit = create_model("deit_small", &ModelOptions::default()).unwrap();
    let find = |name: &str| -> Option<&ParamSpec> { vit.specs().iter().find(|spec| spec.name == name) };
    let mut shared = 0;
    for spec in model.specs() {
        assert_eq!(spec.kind, ParamKind::Parameter);
        if let Some(theirs) = find(&spec.name) {
            // First values are the one thing that differs.
            assert_eq!(spec, &ParamSpec { init: spec.init, ..theirs.clone() });
            shared += 1;
        } else {
            assert!(spec.name.starts_with("decoder_") || spec.name == "mask_token", "{}", spec.name);
        }
    }
    // All but the positions and the head.
    assert_eq!(shared, vit.specs().len() - 3);
    // A block of width c has 12 c^2 + 13 c numbers; the rest: tokens, patches, norms, and the
    // layers between.
    let block = |c: usize| 12 * c * c + 13 * c;
    let encoder = |c: usize| 12 * block(c) + c + (768 * c + c) + 2 * c;
    let decoder =
        |c: usize, w: usize, depth: usize| depth * block(w) + (c * w + w) + w + 2 * w + (108 * w + 108);
    for (name, c, w, depth) in
        [("mae_tiny", 192, 128, 4), ("mae_small", 384, 256, 4), ("mae_base", 768, 512, 8)]
    {
        let model = Mae::new(name, &MaeOptions::default()).unwrap();
        let params: usize = model.specs().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        assert_eq!(params, encoder(c) + decoder(c, w, depth));
    }
}

#[test]
fn cost_by_hand() {
    let model = Mae::new("mae_small", &MaeOptions::default()).unwrap();
    let cost = model.cost().unwrap();
    // 196 patches; the encoder sees 49 and the class token, the decoder 196 and the class token,
    // whose prediction is left out. A block of width c and t tokens: 12 t c^2 in linear layers, 2
    // t^2 c in attention.
    assert_eq!(cost.conv_macs, 196 * 16 * 16 * 3 * 384);
    let linear =
        12 * 12 * 50 * 384u64.pow(2) + 50 * 384 * 256 + 4 * 12 * 197 * 256u64.pow(2) + 196 * 256 * 108;
    let attention = 12 * 2 * 50u64.pow(2) * 384 + 4 * 2 * 197u64.pow(2) * 256;
    assert_eq!((cost.linear_macs, cost.attention_macs), (linear, attention));
    let small = Mae::new("mae_small", &MaeOptions::default()).unwrap();
    let small = small.at_size([96, 96]).unwrap();
    assert!(small.cost().unwrap().macs() < cost.macs() / 5);
}
