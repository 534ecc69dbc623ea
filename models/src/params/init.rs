//! First values of parameters, drawn from the seed and the parameter's name alone.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// All the same.
    Constant(f64),
    /// Normal distribution with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal distribution with mean 0, drawn again outside `[-limit, limit]`.
    ///
    /// timm's `trunc_normal_` cuts at an absolute 2, not at two standard deviations.
    TruncatedNormal {
        /// Standard deviation before truncation.
        std: f64,
        /// Largest absolute value.
        limit: f64,
    },
    /// Uniform distribution on `[-bound, bound)`.
    Uniform {
        /// Largest absolute value.
        bound: f64,
    },
}

impl Init {
    /// Linear layers, tokens and positions of most vision transformers (timm's `trunc_normal_` with
    /// std 0.02).
    pub const TRANSFORMER: Self = Self::TruncatedNormal { std: 0.02, limit: 2.0 };

    /// He initialization of a convolution for rectifiers, by its fan-out (torchvision's ResNet).
    pub fn kaiming_fan_out(shape: &[usize]) -> Self {
        let receptive: usize = shape[2..].iter().product();
        Self::Normal { std: (2.0 / (shape[0] * receptive) as f64).sqrt() }
    }

    /// Xavier's uniform initialization of a matrix `[outputs, inputs]`; further dimensions count as
    /// inputs, so that the kernel of a patch embedding is the matrix that it multiplies patches by.
    pub fn xavier_uniform(shape: &[usize]) -> Self {
        let (outputs, inputs) = (shape[0], shape[1..].iter().product::<usize>());
        Self::Uniform { bound: (6.0 / (inputs + outputs) as f64).sqrt() }
    }

    /// PyTorch's default for the weight and bias of linear and convolution layers: uniform within
    /// `1 / sqrt(fan_in)`.
    pub fn fan_in_uniform(fan_in: usize) -> Self {
        Self::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    }

    /// `count` values for the parameter called `name`: the same for the same seed and name,
    /// whatever else the model holds.
    pub fn draw(&self, seed: u64, name: &str, count: usize) -> Vec<f32> {
        let mut rng = generator(seed, name);
        match *self {
            Self::Zeros => vec![0.0; count],
            Self::Ones => vec![1.0; count],
            Self::Constant(value) => vec![value as f32; count],
            Self::Normal { std } => fill(count, || normal(&mut rng, std)),
            Self::TruncatedNormal { std, limit } => fill(count, || {
                loop {
                    let value = normal(&mut rng, std);
                    if value.abs() <= limit {
                        return value;
                    }
                }
            }),
            Self::Uniform { bound } => match Uniform::new(-bound, bound) {
                Ok(uniform) => fill(count, || uniform.sample(&mut rng)),
                Err(_) => vec![0.0; count],
            },
        }
    }
}

fn fill(count: usize, mut draw: impl FnMut() -> f64) -> Vec<f32> {
    (0..count).map(|_| draw() as f32).collect()
}

fn normal(rng: &mut ChaCha8Rng, std: f64) -> f64 {
    Normal::new(0.0, std).map_or(0.0, |normal| normal.sample(rng))
}

/// A generator whose key is the seed and the name (its FNV-1a hash, as in the golden files).
pub(crate) fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let hash =
        name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let init = Init::Normal { std: 1.0 };
        assert_eq!(init.draw(1, "a", 8), init.draw(1, "a", 9)[..8]);
        assert_ne!(init.draw(1, "a", 8), init.draw(2, "a", 8));
        assert_ne!(init.draw(1, "a", 8), init.draw(1, "b", 8));
    }

    #[test]
    fn distributions_have_their_moments_and_limits() {
        let n = 100_000;
        let moments = |values: &[f32]| {
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n as f64;
            (mean, square.sqrt())
        };
        // Standard errors: of the mean std / sqrt(n), of the deviation about std / sqrt(2 n); five
        // of them.
        for (init, std) in [
            (Init::Normal { std: 0.02 }, 0.02),
            (Init::TruncatedNormal { std: 0.02, limit: 2.0 }, 0.02),
            (Init::Uniform { bound: 0.3 }, 0.3 / 3f64.sqrt()),
        ] {
            let (mean, deviation) = moments(&init.draw(3, "w", n));
            assert!(mean.abs() < 5.0 * std / (n as f64).sqrt(), "{init:?}: mean {mean}");
            assert!((deviation - std).abs() < 5.0 * std / (2.0 * n as f64).sqrt(), "{init:?}: {deviation}");
        }
        let cut = Init::TruncatedNormal { std: 1.0, limit: 0.5 }.draw(3, "w", 1000);
        assert!(cut.iter().all(|v| v.abs() <= 0.5));
    }
}
