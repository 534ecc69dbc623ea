//! The stack machine of a pickle, protocols 2 to 5.

use std::collections::HashMap;

use super::input::Input;
use super::stack::{Stack, limit};
use super::{Item, Pickle, Value, look};
use crate::weights::Fallible;

/// Reads a pickle to its end.
pub(in crate::weights) fn parse(bytes: &[u8]) -> Fallible<Pickle<'_>> {
    parse_first(bytes).map(|(pickle, _)| pickle)
}

/// Reads the pickle at the start of `bytes`; also returns its length.
pub(in crate::weights) fn parse_first(bytes: &[u8]) -> Fallible<(Pickle<'_>, usize)> {
    let mut machine = Machine {
        input: Input::new(bytes),
        stack: Stack::default(),
        memo: HashMap::new(),
        values: Vec::new(),
    };
    while machine.step()? {}
    let root = machine.stack.pop()?;
    let used = bytes.len() - machine.input.left();
    Ok((Pickle { values: machine.values, root }, used))
}

pub(super) struct Machine<'a> {
    input: Input<'a>,
    stack: Stack,
    memo: HashMap<u64, Item>,
    pub(super) values: Vec<Value<'a>>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; false at the last.
    fn step(&mut self) -> Fallible<bool> {
        let op = self.input.number(1)? as u8;
        match op {
            b'.' => return Ok(false),
            0x80 => self.protocol()?,
            // A frame only announces how many bytes follow.
            0x95 => drop(self.input.take(8)?),
            b'(' => self.stack.mark()?,
            b'0' => drop(self.stack.pop()?),
            b'1' => drop(self.stack.pop_to_mark()?),
            b'2' => self.stack.push(self.stack.top()?)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(op)?,
            b'}' | b'd' | b's' | b'u' | b']' | b'l' | 0x8F | 0x91 | b'a' | b'e' | 0x90 => {
                self.container(op)?;
            }
            b')' | b't' | 0x85..=0x87 => self.tuple(op)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(op)?,
            _ => self.literal(op)?,
        }
        Ok(true)
    }

    fn protocol(&mut self) -> Fallible<()> {
        match self.input.number(1)? {
            2..=5 => Ok(()),
            other => Err(format!("protocol {other} is not known, expected 2 to 5")),
        }
    }

    fn literal(&mut self, op: u8) -> Fallible<()> {
        let item = match op {
            b'N' => Item::Opaque,
            0x88 => Item::Int(1),
            0x89 => Item::Int(0),
            b'K' => Item::Int(self.input.number(1)? as i64),
            b'M' => Item::Int(self.input.number(2)? as i64),
            b'J' => Item::Int(i64::from(self.input.number(4)? as u32 as i32)),
            0x8A => self.input.long(1)?.map_or(Item::Opaque, Item::Int),
            0x8B => self.input.long(4)?.map_or(Item::Opaque, Item::Int),
            b'G' => self.skip(8)?,
            0x8C => Value::Text(self.input.text(1)?).stored_in(self)?,
            b'X' => Value::Text(self.input.text(4)?).stored_in(self)?,
            0x8D => Value::Text(self.input.text(8)?).stored_in(self)?,
            b'U' | b'C' => self.skip_counted(1)?,
            b'T' | b'B' => self.skip_counted(4)?,
            0x8E | 0x96 => self.skip_counted(8)?,
            other => return Err(format!("instruction {other:#04x} is not one that `torch.save` writes")),
        };
        self.stack.push(item)
    }

    fn skip(&mut self, count: u64) -> Fallible<Item> {
        self.input.take(count)?;
        Ok(Item::Opaque)
    }

    fn skip_counted(&mut self, width: u64) -> Fallible<Item> {
        let count = self.input.number(width)?;
        self.skip(count)
    }

    fn remember(&mut self, op: u8) -> Fallible<()> {
        let index = match op {
            b'q' | b'h' => self.input.number(1)?,
            b'r' | b'j' => self.input.number(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(op, b'h' | b'j') {
            let item = *self.memo.get(&index).ok_or_else(|| format!("nothing was kept under {index}"))?;
            return self.stack.push(item);
        }
        self.memo.insert(index, self.stack.top()?);
        limit(self.memo.len())
    }

    fn container(&mut self, op: u8) -> Fallible<()> {
        match op {
            b'}' => self.push_value(Value::Dict(Vec::new())),
            // Lists and sets hold no weights: what is put into them may be forgotten.
            b']' | 0x8F => self.stack.push(Item::Opaque),
            b'l' | 0x91 => {
                self.stack.pop_to_mark()?;
                self.stack.push(Item::Opaque)
            }
            b'a' => self.stack.pop().map(drop),
            b'e' | 0x90 => self.stack.pop_to_mark().map(drop),
            b's' => {
                let (value, key) = (self.stack.pop()?, self.stack.pop()?);
                self.insert(&[key, value])
            }
            _ => {
                let pairs = self.stack.pop_to_mark()?;
                if op == b'd' {
                    self.push_value(Value::Dict(Vec::new()))?;
                }
                self.insert(&pairs)
            }
        }
    }

    fn tuple(&mut self, op: u8) -> Fallible<()> {
        let items = match op {
            b')' => Vec::new(),
            b't' => self.stack.pop_to_mark()?,
            _ => {
                let count = usize::from(op - 0x84);
                let mut items = (0..count).map(|_| self.stack.pop()).collect::<Fallible<Vec<_>>>()?;
                items.reverse();
                items
            }
        };
        self.push_value(Value::Tuple(items))
    }

    fn object(&mut self, op: u8) -> Fallible<()> {
        let item = match op {
            b'c' => Value::Global(self.input.line()?, self.input.line()?).stored_in(self)?,
            0x93 => {
                let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                match (self.get(module), self.get(name)) {
                    (Some(&Value::Text(module)), Some(&Value::Text(name))) => {
                        Value::Global(module, name).stored_in(self)?
                    }
                    _ => return Err("a class is named by something that is not text".into()),
                }
            }
            // The state of an object says nothing about weights, not even an ordered dictionary's.
            b'b' => return self.stack.pop().map(drop),
            b'Q' => {
                let id = self.stack.pop()?;
                self.storage(id)?
            }
            _ => {
                if op == 0x92 {
                    self.stack.pop()?;
                }
                let (arguments, callee) = (self.stack.pop()?, self.stack.pop()?);
                self.call(callee, arguments)?
            }
        };
        self.stack.push(item)
    }

    fn insert(&mut self, pairs: &[Item]) -> Fallible<()> {
        let top = self.stack.top()?;
        if let Item::At(index) = top
            && let Some(Value::Dict(entries)) = self.values.get_mut(index as usize)
        {
            entries.extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        // Entries of an opaque object (a subclass of a dictionary) are as opaque as the object.
        if pairs.len().is_multiple_of(2) {
            Ok(())
        } else {
            Err("a dictionary has a key without a value".into())
        }
    }

    pub(super) fn get(&self, item: Item) -> Option<&Value<'a>> {
        look(&self.values, item)
    }

    fn push_value(&mut self, value: Value<'a>) -> Fallible<()> {
        let item = value.stored_in(self)?;
        self.stack.push(item)
    }
}

impl<'a> Value<'a> {
    pub(super) fn stored_in(self, machine: &mut Machine<'a>) -> Fallible<Item> {
        limit(machine.values.len() + 1)?;
        machine.values.push(self);
        Ok(Item::At(machine.values.len() as u32 - 1))
    }
}
