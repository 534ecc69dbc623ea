//! Position and layout of a tensor in a file.

use candle_core::{DType, Device, Tensor};

use crate::weights::Fallible;

/// A run of numbers that tensors are views of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::weights) struct Storage<'a> {
    pub(super) dtype: DType,
    /// Name of its entry in the archive.
    pub(in crate::weights) key: &'a str,
    pub(super) elements: usize,
}

/// A view inside a storage.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::weights) struct TensorInfo<'a> {
    pub(in crate::weights) storage: Storage<'a>,
    offset: usize,
    shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    strides: Vec<usize>,
}

impl<'a> TensorInfo<'a> {
    /// Checks that the view is inside its storage.
    pub(super) fn new(
        storage: Storage<'a>,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Fallible<Self> {
        if shape.len() != strides.len() {
            return Err(format!("a tensor has {} dimensions but {} strides", shape.len(), strides.len()));
        }
        let info = Self { storage, offset, shape, strides };
        let outside = || {
            format!(
                "a tensor of shape {:?} with strides {:?} from {offset} leaves its storage of {} elements",
                info.shape, info.strides, storage.elements
            )
        };
        let end = info.end().ok_or_else(outside)?;
        if end > storage.elements || info.bytes().is_err() { Err(outside()) } else { Ok(info) }
    }

    /// One past the last element; `None` on overflow.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let mut last = self.offset;
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add((size - 1).checked_mul(stride)?)?;
        }
        last.checked_add(1)
    }

    /// Memory that the tensor takes.
    pub(in crate::weights) fn bytes(&self) -> Fallible<u64> {
        let count = self.shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
        let bytes = count.and_then(|n| n.checked_mul(self.storage.dtype.size_in_bytes() as u64));
        bytes.ok_or_else(|| format!("shape {:?} has more elements than any file", self.shape))
    }

    /// The tensor, from the bytes of its storage.
    pub(in crate::weights) fn extract(&self, storage: &[u8]) -> Fallible<Tensor> {
        let width = self.storage.dtype.size_in_bytes();
        let elements = storage.len() / width;
        if self.end().is_none_or(|end| end > elements) {
            return Err(format!(
                "its storage `{}` has {elements} elements, expected {}",
                self.storage.key, self.storage.elements
            ));
        }
        let mut bytes = Vec::with_capacity(self.bytes()? as usize);
        if !self.shape.contains(&0) {
            self.gather(&storage[self.offset * width..], width, &mut bytes);
        }
        Tensor::from_raw_buffer(&bytes, self.storage.dtype, &self.shape, &Device::Cpu)
            .map_err(|e| format!("cannot make the tensor: {e}"))
    }

    /// Appends all elements in row-major order. Trailing dimensions that are contiguous are copied
    /// as one run.
    fn gather(&self, storage: &[u8], width: usize, out: &mut Vec<u8>) {
        let mut run = 1;
        let mut outer = self.shape.len();
        while outer > 0 && (self.strides[outer - 1] == run || self.shape[outer - 1] == 1) {
            run *= self.shape[outer - 1];
            outer -= 1;
        }
        let mut index = vec![0; outer];
        let mut at = 0;
        loop {
            out.extend_from_slice(&storage[at * width..(at + run) * width]);
            let Some(axis) = (0..outer).rev().find(|&axis| index[axis] + 1 < self.shape[axis]) else {
                return;
            };
            index[axis] += 1;
            at += self.strides[axis];
            for (inner, stride) in index.iter_mut().zip(&self.strides).skip(axis + 1) {
                at -= std::mem::take(inner) * stride;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: usize, shape: &[usize], strides: &[usize]) -> Fallible<Vec<f32>> {
        let storage = Storage { dtype: DType::F32, key: "0", elements: 12 };
        let bytes: Vec<u8> = (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let info = TensorInfo::new(storage, offset, shape.to_vec(), strides.to_vec())?;
        let tensor = info.extract(&bytes)?;
        assert_eq!(tensor.dims(), shape);
        Ok(tensor.flatten_all().unwrap().to_vec1().unwrap())
    }

    #[test]
    fn views_follow_their_strides() {
        assert_eq!(view(2, &[3], &[1]).unwrap(), [2., 3., 4.]);
        assert_eq!(view(0, &[2, 3], &[1, 2]).unwrap(), [0., 2., 4., 1., 3., 5.]);
        assert_eq!(view(1, &[2, 2, 2], &[6, 1, 3]).unwrap(), [1., 4., 2., 5., 7., 10., 8., 11.]);
        assert_eq!(view(3, &[], &[]).unwrap(), [3.]);
        assert_eq!(view(5, &[2, 2], &[0, 0]).unwrap(), [5.; 4]);
        assert_eq!(view(0, &[2, 1, 3], &[3, 77, 1]).unwrap(), [0., 1., 2., 3., 4., 5.]);
        assert_eq!(view(99, &[0, 3], &[3, 1]).unwrap(), [0f32; 0]);
    }

    #[test]
    fn views_outside_their_storage_are_errors() {
        for (offset, shape, strides) in [
            (0, vec![13], vec![1]),
            (10, vec![3], vec![1]),
            (0, vec![3], vec![6]),
            (usize::MAX, vec![2], vec![1]),
            (0, vec![usize::MAX, usize::MAX], vec![0, 0]),
            (0, vec![3], vec![usize::MAX]),
            (0, vec![2, 2], vec![1]),
        ] {
            let message = view(offset, &shape, &strides).unwrap_err();
            assert!(message.contains("a tensor"), "{message}");
        }
    }
}
