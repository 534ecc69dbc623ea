//! Activations.

use candle_core::{DType, Tensor};

use super::kernels::rows::Curve;
use super::kernels::{Compute, Storage, rows};
use super::view::{Param, View, tensor};
use super::{Traced, by_storage, expect_shape, on_gpu};
use crate::Result;

/// An activation without parameters.
trait Activation: Curve {
    const OP: &'static str;
    /// The kernels of the function and of its slope, on a GPU.
    #[cfg(feature = "cuda")]
    const KERNELS: [&'static str; 2];
}

struct Relu;

impl Activation for Relu {
    const OP: &'static str = "relu";
    #[cfg(feature = "cuda")]
    const KERNELS: [&'static str; 2] = ["relu_forward", "relu_backward"];
}

impl Curve for Relu {
    #[inline(always)]
    fn value<T: Compute, const FUSED: bool>(x: T) -> T {
        // NaN stays NaN, as in PyTorch, so that a diverged run is noticed.
        if x <= T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn slope<T: Compute, const FUSED: bool>(x: T, g: T) -> T {
        if x > T::ZERO { g } else { T::ZERO }
    }
}

struct SquaredRelu;

impl Activation for SquaredRelu {
    const OP: &'static str = "squared_relu";
    #[cfg(feature = "cuda")]
    const KERNELS: [&'static str; 2] = ["squared_relu_forward", "squared_relu_backward"];
}

impl Curve for SquaredRelu {
    #[inline(always)]
    fn value<T: Compute, const FUSED: bool>(x: T) -> T {
        let r = Relu::value::<T, FUSED>(x);
        r * r
    }

    #[inline(always)]
    fn slope<T: Compute, const FUSED: bool>(x: T, g: T) -> T {
        let r = Relu::value::<T, FUSED>(x);
        (r + r) * g
    }
}

struct Gelu;

impl Gelu {
    /// The normal distribution function.
    #[inline(always)]
    fn cdf<T: Compute, const FUSED: bool>(x: T) -> T {
        let half = T::of(0.5);
        (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf::<FUSED>().times_plus::<FUSED>(half, half)
    }
}

impl Activation for Gelu {
    const OP: &'static str = "gelu";
    #[cfg(feature = "cuda")]
    const KERNELS: [&'static str; 2] = ["gelu_forward", "gelu_backward"];
}

impl Curve for Gelu {
    #[inline(always)]
    fn value<T: Compute, const FUSED: bool>(x: T) -> T {
        x * Self::cdf::<T, FUSED>(x)
    }

    #[inline(always)]
    fn slope<T: Compute, const FUSED: bool>(x: T, g: T) -> T {
        // 1 / sqrt(2 pi)
        let density = T::of(0.398_942_280_401_432_7) * (T::of(-0.5) * x * x).exp::<FUSED>();
        g * x.times_plus::<FUSED>(density, Self::cdf::<T, FUSED>(x))
    }
}

struct Silu;

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid<T: Compute, const FUSED: bool>(x: T) -> T {
    // Of the negative size, so that the exponential cannot overflow.
    let e = (if x > T::ZERO { -x } else { x }).exp::<FUSED>();
    (if x > T::ZERO { T::ONE } else { e }) / (T::ONE + e)
}

impl Activation for Silu {
    const OP: &'static str = "silu";
    #[cfg(feature = "cuda")]
    const KERNELS: [&'static str; 2] = ["silu_forward", "silu_backward"];
}

impl Curve for Silu {
    #[inline(always)]
    fn value<T: Compute, const FUSED: bool>(x: T) -> T {
        x * sigmoid::<T, FUSED>(x)
    }

    #[inline(always)]
    fn slope<T: Compute, const FUSED: bool>(x: T, g: T) -> T {
        let s = sigmoid::<T, FUSED>(x);
        g * s * x.times_plus::<FUSED>(T::ONE - s, T::ONE)
    }
}

/// `max(x, 0)`, with derivative 0 at 0 as in PyTorch. Any shape.
///
/// # Errors
/// When `x` is not `f32`, `f64` or `bf16` on the CPU.
pub fn relu(x: &Tensor) -> Result<Traced> {
    pointwise::<Relu>(x)
}

/// `x * Phi(x)`, the exact (erf) form. Any shape.
///
/// # Errors
/// When `x` is not `f32`, `f64` or `bf16` on the CPU.
pub fn gelu(x: &Tensor) -> Result<Traced> {
    pointwise::<Gelu>(x)
}

/// `x * sigmoid(x)` (SiLU, also called swish). Any shape.
///
/// # Errors
/// When `x` is not `f32`, `f64` or `bf16` on the CPU.
pub fn silu(x: &Tensor) -> Result<Traced> {
    pointwise::<Silu>(x)
}

/// `max(x, 0)^2`. Any shape.
///
/// # Errors
/// When `x` is not `f32`, `f64` or `bf16` on the CPU.
pub fn squared_relu(x: &Tensor) -> Result<Traced> {
    pointwise::<SquaredRelu>(x)
}

/// `scale * max(x, 0)^2 + bias` (StarReLU, Yu et al., 2022). Any shape; `scale` and `bias` are one
/// number each, `[1]`.
///
/// The pullback gives `[x, scale, bias]`.
///
/// # Errors
/// When `scale` or `bias` has another shape, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn star_relu(x: &Tensor, scale: &Tensor, bias: &Tensor) -> Result<Traced> {
    const OP: &str = "star_relu";
    expect_shape(OP, "a scale", scale, &[1])?;
    expect_shape(OP, "a bias", bias, &[1])?;
    on_gpu!(x, super::cuda::star_relu(x, scale, bias));
    let number = |t: &Tensor| -> Result<f64> { Ok(t.to_dtype(DType::F64)?.to_vec1::<f64>()?[0]) };
    let (s, b) = (number(scale)?, number(bias)?);
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        type T = <S as Storage>::Real;
        let (scale, bias) = (Param::of::<S>(scale)?, Param::of::<S>(bias)?);
        let (s, b) = (T::of(s), T::of(b));
        let y = rows::map(View::new(OP, &x)?.slice::<S>()?, #[inline(always)] move |x| s * SquaredRelu::value::<T, false>(x) + b);
        Ok(Traced::new(tensor(y, x.dims())?, move |dy, _| {
            let dy = dy.contiguous()?;
            let (xv, dyv) = (View::new(OP, &x)?, View::new(OP, &dy)?);
            let (xs, dys) = (xv.slice::<S>()?, dyv.slice::<S>()?);
            let (dx, [dscale, dbias]) = rows::zip_and_sums(
                xs,
                dys,
                #[inline(always)]
                move |x, g| s * SquaredRelu::slope::<T, false>(x, g),
                #[inline(always)]
                |x, g| SquaredRelu::value::<T, false>(x) * g,
                #[inline(always)]
                |_, g| g,
            );
            let (dscale, dbias) = (vec![T::of(dscale)], vec![T::of(dbias)]);
            Ok(vec![Some(tensor(dx, x.dims())?), scale.gradient(dscale)?, bias.gradient(dbias)?])
        }))
    })
}

fn pointwise<C: Activation>(x: &Tensor) -> Result<Traced> {
    on_gpu!(x, super::cuda::pointwise((C::OP, C::KERNELS), x));
    let x = x.contiguous()?;
    by_storage!(C::OP, x, S => {
        let value = tensor(rows::curve::<C, S>(View::new(C::OP, &x)?.slice::<S>()?), x.dims())?;
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let (xv, dyv) = (View::new(C::OP, &x)?, View::new(C::OP, &dy)?);
            let dx = rows::curve_slope::<C, S>(xv.slice::<S>()?, dyv.slice::<S>()?);
            Ok(vec![Some(tensor(dx, x.dims())?)])
        }))
    })
}
