//! Kernels that are compiled for several instruction sets; the machine's best is picked at run
//! time.

/// Defines a function whose body, with all that is inlined into it, is compiled for each
/// instruction set: compilers then turn its plain loops into the widest vector instructions there
/// are. The results are the same on all of them, as no operation is fused or reordered.
///
/// Every function that the body calls must be `#[inline(always)]`; anything else, including
/// closures, is compiled for the base set.
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$l:lifetime>($($arg:ident: $ty:ty),* $(,)?)
        $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(unused_parens)]
        $vis fn $name<$l>($($arg: $ty),*) $(-> $out)? {
            struct Kernel<$l> {
                $($arg: $ty),*
            }
            impl<$l> pulp::WithSimd for Kernel<$l> {
                type Output = ($($out)?);

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            crate::simd::dispatch(Kernel { $($arg),* })
        }
    };
}
pub(crate) use vectorized;

/// Runs a kernel with the best instruction set of the machine.
#[inline]
pub(crate) fn dispatch<K: pulp::WithSimd>(kernel: K) -> K::Output {
    #[cfg(test)]
    if let Some(set) = tests::FORCED.get() {
        return tests::dispatch_to(set, kernel);
    }
    pulp::Arch::new().dispatch(kernel)
}

// Casts from float to integer saturate, and compilers do not turn that into vector instructions.
// Adding a large power of two rounds to a whole number in the lowest bits; if that rounded up, one
// is subtracted.

/// Clips to 0..=255 and truncates.
#[inline(always)]
pub(crate) fn byte_of_f32(value: f32) -> u8 {
    const SHIFT: f32 = (1u32 << 23) as f32;
    let value = if value > 0.0 { value } else { 0.0 };
    let value = if value < 255.0 { value } else { 255.0 };
    let shifted = value + SHIFT;
    (shifted.to_bits() as u8).wrapping_sub(u8::from(shifted - SHIFT > value))
}

/// Clips to 0..=255 and truncates.
#[inline(always)]
pub(crate) fn byte_of_f64(value: f64) -> u8 {
    const SHIFT: f64 = (1u64 << 52) as f64;
    let value = if value > 0.0 { value } else { 0.0 };
    let value = if value < 255.0 { value } else { 255.0 };
    let shifted = value + SHIFT;
    (shifted.to_bits() as u8).wrapping_sub(u8::from(shifted - SHIFT > value))
}

/// The largest whole number that is not above a value of -2^31 to 2^31.
#[inline(always)]
pub(crate) fn floor(value: f64) -> i32 {
    const SHIFT: f64 = (3u64 << 51) as f64;
    let shifted = value + SHIFT;
    (shifted.to_bits() as i32).wrapping_sub(i32::from(shifted - SHIFT > value))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use image::{Rgb, RgbImage};
    use pulp::{Simd, WithSimd};

    use super::{byte_of_f32, byte_of_f64, floor};
    use crate::{Adjustment, Filter, Interpolation, Op, OpConfig, Scratch, resize};

    /// Instruction sets below the best.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Set {
        Base,
        #[cfg(target_arch = "x86_64")]
        Avx2,
    }

    thread_local! {
        pub(super) static FORCED: Cell<Option<Set>> = const { Cell::new(None) };
    }

    pub(super) fn dispatch_to<K: WithSimd>(set: Set, kernel: K) -> K::Output {
        match set {
            Set::Base => kernel.with_simd(pulp::Scalar),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => match pulp::x86::V3::try_new() {
                Some(avx2) => Simd::vectorize(avx2, kernel),
                None => kernel.with_simd(pulp::Scalar),
            },
        }
    }

    /// Everything that goes through a vectorized kernel, on one image.
    fn everything(source: &RgbImage) -> Vec<RgbImage> {
        let (mut scratch, mut out) = (Scratch::new(), Vec::new());
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
            let config = OpConfig { interpolation, ..Default::default() };
            for &op in Op::ALL {
                let mut image = source.clone();
                op.apply_with(&mut image, 7.3, true, &config, &mut scratch).unwrap();
                out.push(image);
            }
        }
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            out.push(resize(source, 31, 17, filter, &mut scratch).unwrap());
            out.push(resize(source, 90, 101, filter, &mut scratch).unwrap());
        }
        let mut image = source.clone();
        Adjustment::Hue.apply(&mut image, 0.37).unwrap();
        out.push(image);
        out
    }

    #[test]
    fn all_instruction_sets_give_the_same_bytes() {
        let sets = [
            Set::Base,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2,
        ];
        for (width, height) in [(1, 1), (3, 50), (37, 29), (64, 20), (83, 3)] {
            let noise = |x: u32, y: u32| (x * 7919 + y * 104_729 + x * y * 31).wrapping_mul(2_654_435_761);
            let source = RgbImage::from_fn(width, height, |x, y| {
                let [r, g, b, _] = noise(x, y).to_be_bytes();
                Rgb([r, g, b])
            });
            let best = everything(&source);
            for set in sets {
                FORCED.set(Some(set));
                let got = everything(&source);
                FORCED.set(None);
                assert!(got == best, "{set:?} at {width}x{height}");
            }
        }
    }

    #[test]
    fn bytes_and_floors_are_those_of_the_casts() {
        let near =
            |v: f64| [v, f64::from_bits(v.to_bits() + 1), f64::from_bits(v.to_bits().saturating_sub(1))];
        for i in -3000..3000i32 {
            for v in near(f64::from(i) / 8.0).into_iter().chain([f64::from(i) * 1e5 + 0.3]) {
                assert_eq!(byte_of_f64(v), v as u8, "{v}");
                assert_eq!(byte_of_f32(v as f32), v as f32 as u8, "{v}");
                assert_eq!(floor(v), v.floor() as i32, "{v}");
            }
        }
        for v in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 254.999_98, -0.0, f32::MIN_POSITIVE] {
            assert_eq!(byte_of_f32(v), v as u8, "{v}");
            assert_eq!(byte_of_f64(f64::from(v)), f64::from(v) as u8, "{v}");
        }
    }
}
