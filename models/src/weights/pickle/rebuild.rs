//! The few functions of PyTorch whose result a pickle is read for.

use candle_core::DType;

use super::machine::Machine;
use super::tensor::{Storage, TensorInfo};
use super::{Item, Value};
use crate::weights::Fallible;

/// PyTorch's own limit.
const MAX_RANK: usize = 64;

impl<'a> Machine<'a> {
    /// Returns the object that `callee(*arguments)` would make, if the callee is known, or an
    /// opaque object. Nothing is called.
    pub(super) fn call(&mut self, callee: Item, arguments: Item) -> Fallible<Item> {
        let Some(&Value::Global(module, name)) = self.get(callee) else { return Ok(Item::Opaque) };
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Value::Dict(Vec::new()).stored_in(self),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => self.tensor(arguments),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Ok(self.tuple_items(arguments).first().copied().unwrap_or(Item::Opaque))
            }
            ("torch._tensor", "_rebuild_from_type_v2") => match *self.tuple_items(arguments) {
                [function, _, inner, ..] if self.rebuilds_tensor(function) => self.tensor(inner),
                _ => Value::Object(callee).stored_in(self),
            },
            _ => Value::Object(callee).stored_in(self),
        }
    }

    fn rebuilds_tensor(&self, function: Item) -> bool {
        matches!(self.get(function), Some(Value::Global("torch._utils", "_rebuild_tensor_v2")))
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&mut self, arguments: Item) -> Fallible<Item> {
        let &[storage, Item::Int(offset), size, stride, ..] = self.tuple_items(arguments) else {
            return Err("a tensor is described by other than storage, offset, size, stride".into());
        };
        let storage = match self.get(storage) {
            Some(&Value::Storage(storage)) => storage,
            // A type that is not read: no fault as long as nobody asks for this tensor.
            Some(&Value::Object(class)) => return Value::Object(class).stored_in(self),
            _ => return Err("a tensor has no storage".into()),
        };
        let (shape, strides) = (self.lengths(size)?, self.lengths(stride)?);
        let offset = usize::try_from(offset).map_err(|_| "a tensor starts before its storage")?;
        let info = TensorInfo::new(storage, offset, shape, strides)?;
        Value::Tensor(Box::new(info)).stored_in(self)
    }

    /// `('storage', class, key, location, elements)`; before PyTorch 1.6 with the part of another
    /// storage that this one is.
    pub(super) fn storage(&mut self, id: Item) -> Fallible<Item> {
        if let &[_, class, _, _, _, part] = self.tuple_items(id)
            && part != Item::Opaque
        {
            return Value::Object(class).stored_in(self);
        }
        let &[kind, class, key, _, Item::Int(elements), ..] = self.tuple_items(id) else {
            return Err("a storage is described by other than kind, class, key, location, elements".into());
        };
        let (Some(Value::Text("storage")), Some(&Value::Global(_, name)), Some(&Value::Text(key))) =
            (self.get(kind), self.get(class), self.get(key))
        else {
            return Err("a storage is described by other than kind, class, key, location, elements".into());
        };
        let elements = usize::try_from(elements).map_err(|_| "a storage has a negative size")?;
        match dtype(name) {
            Some(dtype) => Value::Storage(Storage { dtype, key, elements }).stored_in(self),
            None => Value::Object(class).stored_in(self),
        }
    }

    fn tuple_items(&self, item: Item) -> &[Item] {
        match self.get(item) {
            Some(Value::Tuple(items)) => items,
            _ => &[],
        }
    }

    fn lengths(&self, item: Item) -> Fallible<Vec<usize>> {
        let length = |item: &Item| match item {
            Item::Int(length) => usize::try_from(*length).ok(),
            _ => None,
        };
        let items = self.tuple_items(item);
        if items.len() > MAX_RANK {
            return Err(format!("a tensor has {} dimensions, more than {MAX_RANK}", items.len()));
        }
        let lengths = items.iter().map(length).collect::<Option<_>>();
        lengths.ok_or_else(|| "a tensor has a negative size or stride".into())
    }
}

fn dtype(class: &str) -> Option<DType> {
    Some(match class {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "ByteStorage" | "BoolStorage" | "UntypedStorage" => DType::U8,
        _ => return None,
    })
}
