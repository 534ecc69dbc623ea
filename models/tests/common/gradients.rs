//! Checks of an op's gradients: against central differences in double precision, its
//! single-precision path against the double one, strided inputs against contiguous ones.

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::Result;
use efficienttrain_models::ops::Traced;

use super::{fnv1a64, hash_uniform, max_difference, numbers};

/// Numbers in [-1, 1) by name.
pub fn filled(name: &str, shape: &[usize]) -> Tensor {
    let seed = fnv1a64(name);
    let values: Vec<f64> =
        (0..shape.iter().product::<usize>() as u64).map(|i| hash_uniform(seed, i)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Sum of `value * weights`, a scalar whose gradient is `weights`.
pub fn dot(value: &Tensor, weights: &Tensor) -> f64 {
    numbers(value).iter().zip(numbers(weights)).map(|(v, w)| v * w).sum()
}

fn nudged(t: &Tensor, at: usize, by: f64) -> Tensor {
    let mut values = numbers(t);
    values[at] += by;
    Tensor::from_vec(values, t.dims(), &Device::Cpu).unwrap()
}

/// How many halves of the last place values and gradients may be off in half precision.
#[derive(Clone, Copy)]
struct Rounding {
    gradients: f64,
    gpu_value: f64,
    gpu_gradients: f64,
}

/// Checks an op's gradients of all inputs, in double and single precision.
pub fn check(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Traced>) {
    check_all(name, inputs, op, Rounding { gradients: 1.0, gpu_value: 1.0, gpu_gradients: 1.0 });
}

/// As [`check`], for an op whose backward pass rounds within: in half precision its gradients may
/// be off by so many halves of the last place, and on a GPU by two.
pub fn check_rounding(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Traced>, halves: f64) {
    check_all(name, inputs, op, Rounding { gradients: halves, gpu_value: 1.0, gpu_gradients: 2.0 });
}

/// As [`check`], for an op that a library computes on a GPU and whose value it may round twice.
pub fn check_rounded_twice(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Traced>) {
    check_all(name, inputs, op, Rounding { gradients: 1.0, gpu_value: 2.0, gpu_gradients: 1.0 });
}

fn check_all(name: &str, inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Traced>, rounding: Rounding) {
    let traced = op(inputs).unwrap();
    let weights = filled(&format!("{name}.cotangent"), traced.value.dims());
    let grads = (traced.pullback)(&weights, &vec![true; inputs.len()]).unwrap();
    assert_eq!(grads.len(), inputs.len(), "{name}: one gradient an input");
    const STEP: f64 = 1e-5;
    for (i, grad) in grads.iter().enumerate() {
        let grad = grad.as_ref().unwrap_or_else(|| panic!("{name}: no gradient of input {i}"));
        assert_eq!(grad.dims(), inputs[i].dims(), "{name}: shape of gradient {i}");
        let grad = numbers(grad);
        let stride = (grad.len() / 40).max(1);
        for at in (0..grad.len()).step_by(stride) {
            let value = |by: f64| {
                let mut moved = inputs.to_vec();
                moved[i] = nudged(&inputs[i], at, by);
                dot(&op(&moved).unwrap().value, &weights)
            };
            let slope = (value(STEP) - value(-STEP)) / (2.0 * STEP);
            let off = (slope - grad[at]).abs();
            assert!(
                off < 1e-7 * (1.0 + slope.abs()),
                "{name}: input {i}[{at}]: {} by hand, {slope} measured",
                grad[at]
            );
        }
        skipping_is_allowed(name, &traced, &weights, i, inputs.len());
    }
    single_precision_agrees(name, inputs, &op, &traced, &weights);
    strides_do_not_matter(name, inputs, &op, &traced);
    sums_agree(name, inputs, &op);
    half_precision_agrees(name, inputs, &op, rounding.gradients);
    if let Some(gpu) = super::gpu() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            gpu_agrees(name, inputs, &op, &gpu, dtype, rounding);
        }
    }
}

/// An op that adds its first gradient to what is there gives the sum, and the other gradients as
/// without it.
fn sums_agree(name: &str, inputs: &[Tensor], op: &impl Fn(&[Tensor]) -> Result<Traced>) {
    for (dtype, places) in [(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, 1.0 / 64.0)] {
        let kind = |i: usize, t: &Tensor| {
            if dtype == DType::BF16 && i > 0 && t.rank() < 3 { DType::F32 } else { dtype }
        };
        let inputs: Vec<Tensor> =
            inputs.iter().enumerate().map(|(i, t)| t.to_dtype(kind(i, t)).unwrap()).collect();
        let traced = op(&inputs).unwrap();
        let Some(onto) = &traced.pullback_onto else { continue };
        let weights = filled(&format!("{name}.sum"), traced.value.dims());
        let weights = weights.to_dtype(traced.value.dtype()).unwrap();
        let known = filled(&format!("{name}.known"), inputs[0].dims()).to_dtype(dtype).unwrap();
        let needs = vec![true; inputs.len()];
        let apart = (traced.pullback)(&weights, &needs).unwrap();
        let got = onto(&weights, &needs, &known).unwrap();
        let numbers_of = |t: &Option<Tensor>| numbers(t.as_ref().unwrap());
        for (got, apart) in got.iter().zip(&apart).skip(1) {
            assert_eq!(numbers_of(got), numbers_of(apart), "{name}: a gradient beside a sum, {dtype:?}");
        }
        let sum: Vec<f64> =
            numbers_of(&apart[0]).iter().zip(numbers(&known)).map(|(dx, known)| dx + known).collect();
        let scale = sum.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        let off = max_difference(&numbers_of(&got[0]), &sum);
        assert!(off < places * scale, "{name}: a sum of gradients, {dtype:?}, is off by {off} of {scale}");
    }
}

/// On a GPU, stored as `dtype`, value and gradients are those of double precision at the same
/// rounded inputs. Inputs of fewer than three dimensions, which may be parameters, are in `f32`.
fn gpu_agrees(
    name: &str,
    inputs: &[Tensor],
    op: &impl Fn(&[Tensor]) -> Result<Traced>,
    gpu: &Device,
    dtype: DType,
    rounding: Rounding,
) {
    let kind = |i: usize, t: &Tensor| if i > 0 && t.rank() < 3 { DType::F32 } else { dtype };
    let rounded: Vec<Tensor> =
        inputs.iter().enumerate().map(|(i, t)| t.to_dtype(kind(i, t)).unwrap()).collect();
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let exact = op(&rounded.iter().map(wide).collect::<Vec<_>>()).unwrap();
    let there: Vec<Tensor> = rounded.iter().map(|t| t.to_device(gpu).unwrap()).collect();
    let traced = op(&there).unwrap();
    let cotangent = filled(&format!("{name}.cotangent"), exact.value.dims());
    let weights = cotangent.to_dtype(traced.value.dtype()).unwrap();
    let needs = vec![true; inputs.len()];
    let want = (exact.pullback)(&wide(&weights), &needs).unwrap();
    let places = match dtype {
        DType::F32 => 2e-5,
        DType::BF16 => 1.0 / 256.0,
        _ => 1.0 / 1024.0,
    };
    let near = |what: &str, a: &Tensor, b: &Tensor, halves: f64| {
        let (a, b) = (numbers(a), numbers(b));
        let scale = b.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        let off = max_difference(&a, &b);
        assert!(
            off < halves * places * scale,
            "{name}: {what} on a GPU, {dtype:?}, is off by {off} of {scale}"
        );
    };
    let single = Rounding { gradients: 1.0, gpu_value: 1.0, gpu_gradients: 1.0 };
    let rounding = if dtype == DType::F32 { single } else { rounding };
    near("the value", &traced.value, &exact.value, rounding.gpu_value);
    let got = (traced.pullback)(&weights.to_device(gpu).unwrap(), &needs).unwrap();
    for ((got, want), input) in got.iter().zip(&want).zip(&there) {
        let got = got.as_ref().unwrap();
        assert_eq!(got.dtype(), input.dtype(), "{name}: a gradient is of another type than its input");
        near("a gradient", got, want.as_ref().unwrap(), rounding.gpu_gradients);
    }
    if let Some(onto) = &traced.pullback_onto {
        let known = filled(&format!("{name}.known"), inputs[0].dims()).to_dtype(there[0].dtype()).unwrap();
        let got = onto(&weights.to_device(gpu).unwrap(), &needs, &known.to_device(gpu).unwrap()).unwrap();
        let sum = (wide(&known) + want[0].as_ref().unwrap()).unwrap();
        near("a sum of gradients", got[0].as_ref().unwrap(), &sum, rounding.gpu_gradients);
        for (got, want) in got.iter().zip(&want).skip(1) {
            near(
                "a gradient beside a sum",
                got.as_ref().unwrap(),
                want.as_ref().unwrap(),
                rounding.gpu_gradients,
            );
        }
    }
    // The same in other strides.
    let first = &there[0];
    let axes: Vec<usize> = (0..first.rank()).rev().collect();
    let turned = rounded[0].permute(axes.as_slice()).unwrap().contiguous().unwrap();
    let mut strided = there.clone();
    strided[0] = turned.to_device(gpu).unwrap().permute(axes.as_slice()).unwrap();
    assert_eq!(
        numbers(&op(&strided).unwrap().value),
        numbers(&traced.value),
        "{name}: strides change the result on a GPU"
    );
}

fn skipping_is_allowed(name: &str, traced: &Traced, weights: &Tensor, kept: usize, inputs: usize) {
    let needs: Vec<bool> = (0..inputs).map(|i| i == kept).collect();
    let alone = (traced.pullback)(weights, &needs).unwrap();
    let all = (traced.pullback)(weights, &vec![true; inputs]).unwrap();
    let (alone, all) = (alone[kept].as_ref().unwrap(), all[kept].as_ref().unwrap());
    assert_eq!(
        numbers(alone),
        numbers(all),
        "{name}: the gradient of input {kept} depends on which others are asked for"
    );
}

fn single_precision_agrees(
    name: &str,
    inputs: &[Tensor],
    op: &impl Fn(&[Tensor]) -> Result<Traced>,
    exact: &Traced,
    weights: &Tensor,
) {
    let single: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
    let traced = op(&single).unwrap();
    assert_eq!(traced.value.dtype(), DType::F32);
    let near = |a: &Tensor, b: &Tensor| {
        let (a, b) = (numbers(a), numbers(b));
        let scale = b.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        assert!(
            max_difference(&a, &b) < 2e-5 * scale,
            "{name}: single precision is off by {}",
            max_difference(&a, &b)
        );
    };
    near(&traced.value, &exact.value);
    let needs = vec![true; inputs.len()];
    let got = (traced.pullback)(&weights.to_dtype(DType::F32).unwrap(), &needs).unwrap();
    for (got, want) in got.iter().zip((exact.pullback)(weights, &needs).unwrap()) {
        near(got.as_ref().unwrap(), want.as_ref().unwrap());
    }
}

/// Stored as `bf16`, value and gradients are those of double precision at the same rounded inputs,
/// rounded once. The first input is the activation: the others, which may be parameters, are tried
/// in `f32` as well.
fn half_precision_agrees(
    name: &str,
    inputs: &[Tensor],
    op: &impl Fn(&[Tensor]) -> Result<Traced>,
    halves: f64,
) {
    let rounded: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::BF16).unwrap()).collect();
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let exact = op(&rounded.iter().map(wide).collect::<Vec<_>>()).unwrap();
    let weights = filled(&format!("{name}.cotangent"), exact.value.dims()).to_dtype(DType::BF16).unwrap();
    let needs = vec![true; inputs.len()];
    let want = (exact.pullback)(&wide(&weights), &needs).unwrap();
    let params = |t: &Tensor| if t.rank() < 3 { t.to_dtype(DType::F32).unwrap() } else { t.clone() };
    let mixed = std::iter::once(rounded[0].clone()).chain(rounded[1..].iter().map(params)).collect();
    for inputs in [rounded, mixed] {
        let traced = op(&inputs).unwrap();
        let near = |what: &str, a: &Tensor, b: &Tensor, halves: f64| {
            let (a, b) = (numbers(a), numbers(b));
            let scale = b.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            let off = max_difference(&a, &b);
            // Half a unit in the last of eight places.
            assert!(
                off < halves * scale / 256.0,
                "{name}: {what} in half precision is off by {off} of {scale}"
            );
        };
        near("the value", &traced.value, &exact.value, 1.0);
        let dy = weights.to_dtype(traced.value.dtype()).unwrap();
        let got = (traced.pullback)(&dy, &needs).unwrap();
        for ((got, want), input) in got.iter().zip(&want).zip(&inputs) {
            let got = got.as_ref().unwrap();
            assert_eq!(got.dtype(), input.dtype(), "{name}: a gradient is of another type than its input");
            near("a gradient", got, want.as_ref().unwrap(), halves);
        }
    }
}

/// The same values behind reversed strides give the same result.
fn strides_do_not_matter(
    name: &str,
    inputs: &[Tensor],
    op: &impl Fn(&[Tensor]) -> Result<Traced>,
    exact: &Traced,
) {
    let reversed = |t: &Tensor| {
        let axes: Vec<usize> = (0..t.rank()).rev().collect();
        t.permute(axes.as_slice()).unwrap().contiguous().unwrap().permute(axes.as_slice()).unwrap()
    };
    let strided: Vec<Tensor> = inputs.iter().map(reversed).collect();
    assert_eq!(
        numbers(&op(&strided).unwrap().value),
        numbers(&exact.value),
        "{name}: strides change the result"
    );
}
