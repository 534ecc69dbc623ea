//! The tensor operators against the array ones, and their gradients.

use crate::common::{distance, noise};
use candle_core::{DType, Device, Tensor, Var};
use freqcrop::{FrequencyCrop, Layout, LowPass, Plan, TensorFilter};

/// Sizes with both bands even (correction), one, none, the identity, and 1.
const CASES: [((usize, usize), (usize, usize)); 6] = [
    ((12, 9), (6, 4)),
    ((12, 9), (6, 5)),
    ((11, 8), (5, 8)),
    ((7, 6), (7, 6)),
    ((5, 4), (1, 1)),
    ((10, 8), (10, 4)),
];

/// The CPU, and a CUDA device if there is one and candle was built for it.
fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if candle_core::utils::cuda_is_available() {
        devices.push(Device::new_cuda(0).unwrap());
    }
    devices
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn by_plan(plan: &Plan<f64>, images: usize, input: &[f64]) -> Vec<f64> {
    let (h, w) = plan.output_size();
    let mut out = vec![0.0; images * h * w];
    plan.apply_slice(Layout::Chw, images, input, &mut out).unwrap();
    out
}

fn filters(
    image: (usize, usize),
    band: (usize, usize),
    dtype: DType,
    device: &Device,
) -> [(TensorFilter, Vec<f64>); 2] {
    let input = noise(4, 6 * image.0 * image.1);
    let crop = by_plan(&FrequencyCrop::new(image, band).unwrap(), 6, &input);
    let low_pass = by_plan(&LowPass::new(image, band).unwrap(), 6, &input);
    [
        (TensorFilter::crop(image, band, dtype, device).unwrap(), crop),
        (TensorFilter::low_pass(image, band, dtype, device).unwrap(), low_pass),
    ]
}

#[test]
fn equals_the_plan() {
    for device in devices() {
        for ((image, band), (dtype, tolerance)) in
            CASES.iter().copied().flat_map(|case| [(case, (DType::F64, 1e-12)), (case, (DType::F32, 2e-6))])
        {
            let input =
                Tensor::from_vec(noise(4, 6 * image.0 * image.1), (2, 3, image.0, image.1), &Device::Cpu)
                    .unwrap();
            let input = input.to_dtype(dtype).unwrap().to_device(&device).unwrap();
            for (filter, expected) in filters(image, band, dtype, &device) {
                let out = filter.forward(&input).unwrap();
                assert_eq!(out.dims()[..2], [2, 3]);
                assert!(distance(&numbers(&out), &expected) < tolerance, "{image:?} to {band:?} {dtype:?}");
                // A permuted view of the same numbers.
                let view = input.transpose(2, 3).unwrap().contiguous().unwrap().transpose(2, 3).unwrap();
                assert!(distance(&numbers(&filter.forward(&view).unwrap()), &expected) < tolerance);
            }
        }
    }
}

/// d/dX of sum(G * f(X)): by finite differences, and `<G, f(E)> = <gradient, E>` for a random
/// direction E.
#[test]
fn gradient_is_the_transpose() {
    for device in devices() {
        for (image, band) in CASES {
            let shape = (2, 3, image.0, image.1);
            let input = noise(4, 6 * image.0 * image.1);
            let x = Var::from_tensor(&Tensor::from_vec(input.clone(), shape, &device).unwrap()).unwrap();
            for (filter, expected) in filters(image, band, DType::F64, &device) {
                let out = filter.forward(&x).unwrap();
                let weights = Tensor::from_vec(noise(9, expected.len()), out.dims(), &device).unwrap();
                let value = |x: &Tensor| {
                    numbers(&(filter.forward(x).unwrap() * &weights).unwrap().sum_all().unwrap())[0]
                };
                let loss = (&out * &weights).unwrap().sum_all().unwrap();
                let gradient = numbers(loss.backward().unwrap().get(&x).expect("a gradient"));
                for index in (0..input.len()).step_by(13) {
                    let moved = |by: f64| {
                        let mut input = input.clone();
                        input[index] += by;
                        value(&Tensor::from_vec(input, shape, &device).unwrap())
                    };
                    let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                    assert!((slope - gradient[index]).abs() < 1e-9, "{image:?} to {band:?} at {index}");
                }
                let direction = noise(77, input.len());
                let along = value(&Tensor::from_vec(direction.clone(), shape, &device).unwrap());
                let dot: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
                assert!((along - dot).abs() < 1e-10, "{image:?} to {band:?}");
            }
        }
    }
}

#[test]
fn wrong_shapes_and_types() {
    let filter = TensorFilter::crop((8, 8), (4, 4), DType::F32, &Device::Cpu).unwrap();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let error = filter.forward(&zeros(&[1, 3, 8, 7], DType::F32)).unwrap_err();
    assert!(error.to_string().contains("expected [N, C, 8, 8]"), "{error}");
    assert!(filter.forward(&zeros(&[3, 8, 8], DType::F32)).is_err());
    assert!(filter.forward(&zeros(&[1, 3, 8, 8], DType::F64)).is_err());
    assert!(TensorFilter::crop((8, 8), (9, 4), DType::F32, &Device::Cpu).is_err());
}
