//! Arrays of a sum as messages.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::config::values::SumType;

impl SumType {
    /// Returns the bytes of arrays, one after the other.
    pub(super) fn encode(self, arrays: &[&[f32]]) -> Vec<u8> {
        let numbers = arrays.iter().map(|array| array.len()).sum::<usize>();
        let (mut bytes, mut rounded) = (Vec::with_capacity(numbers * self.bytes()), Vec::new());
        for array in arrays {
            match self {
                Self::F32 => bytes.extend_from_slice(bytemuck::cast_slice(array)),
                Self::Bf16 => {
                    rounded.resize(array.len(), bf16::ZERO);
                    rounded.convert_from_f32_slice(array);
                    bytes.extend_from_slice(bytemuck::cast_slice(rounded.reinterpret_cast()));
                }
            }
        }
        bytes
    }

    /// Returns `count` arrays of the same length.
    pub(super) fn decode(self, bytes: &[u8], count: usize) -> Vec<Vec<f32>> {
        let len = (bytes.len() / count.max(1)).max(1);
        let array = |bytes: &[u8]| match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
            Self::Bf16 => bytes.as_chunks().0.iter().map(|&x| bf16::from_le_bytes(x).to_f32()).collect(),
        };
        let mut arrays: Vec<Vec<f32>> = bytes.chunks_exact(len).take(count).map(array).collect();
        arrays.resize(count, Vec::new());
        arrays
    }

    /// Returns arrays as other ranks would get them.
    pub(super) fn rounded(self, mut arrays: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        if self == Self::Bf16 {
            arrays.iter_mut().flatten().for_each(|x| *x = bf16::from_f32(*x).to_f32());
        }
        arrays
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}
