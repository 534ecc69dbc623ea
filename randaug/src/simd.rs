//! Kernels that are compiled for several instruction sets, of which the machine's best is picked at run time.

/// Defines a function whose body, with all that is inlined into it, is compiled for each instruction set: compilers
/// then turn its plain loops into the widest vector instructions there are. The results are the same on all of them,
/// as no operation is fused or reordered.
///
/// What the body calls must be `#[inline(always)]`; anything else, a closure as well, would keep the base set.
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
            pulp::Arch::new().dispatch(Kernel { $($arg),* })
        }
    };
}
pub(crate) use vectorized;

// Casts from float to integer saturate, and compilers do not turn that into vector instructions. Adding a large power
// of two rounds to a whole number in the lowest bits; where that rounded up, one is taken away again.

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
    use super::{byte_of_f32, byte_of_f64, floor};

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
