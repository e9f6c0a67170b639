//! The part of Python's pickle language that a `torch.save`d state dictionary uses, interpreted without Python.
//!
//! In: the content of `data.pkl`. Out: each tensor's name, type, shape, strides, and the storage it views.
//! Nothing is ever called: the handful of functions that rebuild tensors are recognised by name and their
//! arguments read; any other name is refused. Values refer to each other by index, so neither deep nesting
//! nor cycles cost stack or leak. Source: Python's `Lib/pickletools.py`, torch's `torch/_utils.py`.

use super::dtype::Dtype;
use super::error::{Error, Result};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// State dictionaries take some 100 bytes a tensor; a pickle beyond this limit is not one.
const PICKLE_LIMIT_BYTES: usize = 64 << 20;

/// A view of a stored array, as the pickle describes it. Nothing in it has been checked against the file.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) dtype: Dtype,
    /// Name of the storage: the last part of the zip entry `…/data/KEY`.
    pub(crate) storage: Rc<str>,
    /// First element of the view within the storage, in elements.
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    /// Distance between neighbours per axis, in elements.
    pub(crate) stride: Vec<usize>,
}

/// Reads the state dictionary in `pickle`. `path` serves in messages alone.
pub(crate) fn state_dict(path: &Path, pickle: &[u8]) -> Result<Vec<(String, View)>> {
    let mut machine =
        Machine { path, pickle, at: 0, stack: vec![], marks: vec![], memo: HashMap::new(), heap: vec![] };
    if pickle.len() > PICKLE_LIMIT_BYTES {
        return Err(machine.fault(format!("{} bytes are too many for a state dictionary", pickle.len())));
    }
    while !machine.step()? {}
    let Some(Value::Dict(id)) = machine.stack.pop() else {
        return Err(machine.fault("holds something other than a dictionary of tensors".into()));
    };
    let Cell::Dict(outer) = &machine.heap[id] else {
        return Err(machine.fault("a dictionary was expected".into()));
    };
    let mut pairs = outer;
    // Training programs put the state dictionary beside epoch and optimiser, under this name.
    let nested = pairs.iter().find_map(|(name, value)| match (name, value) {
        (Value::Text(name), Value::Dict(id)) if &**name == "state_dict" => Some(*id),
        _ => None,
    });
    if let Some(Cell::Dict(inner)) = nested.map(|id| &machine.heap[id]) {
        pairs = inner;
    }
    let mut found = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        match (name, value) {
            (Value::Text(name), Value::Tensor(id)) => match &machine.heap[*id] {
                Cell::Tensor(view) => found.push((name.to_string(), view.clone())),
                _ => return Err(machine.fault(format!("{name} is not a tensor"))),
            },
            (Value::Text(name), _) => {
                let fault = format!("entry {name} is not a tensor; expected a plain state dictionary");
                return Err(machine.fault(fault));
            }
            _ => return Err(machine.fault("an entry has no name".into())),
        }
    }
    Ok(found)
}

/// The Python objects that a state dictionary names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    OrderedDict,
    RebuildTensor,
    /// For types that came after storages had types: the storage is of bytes, and the type is named.
    RebuildTypedTensor,
    RebuildParameter,
    Storage(Dtype),
    Type(Dtype),
}

/// How types are called that came after storages had types and that are not read here.
const LATE_TYPES: [&str; 4] = ["complex", "bits", "uint", "float"];

fn known(module: &str, name: &str) -> Option<Known> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Known::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Known::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Known::RebuildTypedTensor,
        ("torch._utils", "_rebuild_parameter") => Known::RebuildParameter,
        ("torch", "FloatStorage") => Known::Storage(Dtype::F32),
        ("torch", "HalfStorage") => Known::Storage(Dtype::F16),
        ("torch", "BFloat16Storage") => Known::Storage(Dtype::Bf16),
        ("torch", "DoubleStorage") => Known::Storage(Dtype::F64),
        ("torch", "LongStorage") => Known::Storage(Dtype::I64),
        ("torch", "IntStorage") => Known::Storage(Dtype::I32),
        ("torch", "ShortStorage") => Known::Storage(Dtype::I16),
        ("torch", "CharStorage") => Known::Storage(Dtype::I8),
        ("torch", "ByteStorage") => Known::Storage(Dtype::U8),
        ("torch", "BoolStorage") => Known::Storage(Dtype::Bool),
        ("torch.storage", "UntypedStorage") => Known::Storage(Dtype::U8),
        ("torch", "uint16") => Known::Type(Dtype::U16),
        ("torch", "uint32") => Known::Type(Dtype::U32),
        ("torch", "uint64") => Known::Type(Dtype::U64),
        ("torch", "float8_e4m3fn") => Known::Type(Dtype::F8E4M3),
        ("torch", "float8_e4m3fnuz") => Known::Type(Dtype::F8E4M3Fnuz),
        ("torch", "float8_e5m2") => Known::Type(Dtype::F8E5M2),
        ("torch", "float8_e5m2fnuz") => Known::Type(Dtype::F8E5M2Fnuz),
        ("torch", "float8_e8m0fnu") => Known::Type(Dtype::F8E8M0),
        _ => return None,
    })
}

#[derive(Clone, Debug)]
enum Value {
    None,
    Int(i64),
    /// A number or flag whose value no tensor depends on.
    Other,
    Text(Rc<str>),
    Tuple(usize),
    List,
    Dict(usize),
    Known(Known),
    Storage(Dtype, Rc<str>),
    Tensor(usize),
}

/// What values with parts point to.
enum Cell {
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Tensor(View),
}

struct Machine<'a> {
    path: &'a Path,
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at which MARK was pushed.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: Vec<Cell>,
}

impl Machine<'_> {
    /// Executes one instruction; true at the end of the program.
    fn step(&mut self) -> Result<bool> {
        let code = self.take(1)?[0];
        match code {
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'.' => return Ok(true),     // STOP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?), // POP
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Other), // NEWTRUE, NEWFALSE
            b'G' => {
                self.take(8)?; // BINFLOAT
                self.stack.push(Value::Other);
            }
            b'K' => self.int(1, false)?,
            b'M' => self.int(2, false)?,
            b'J' => self.int(4, true)?,
            0x8a => {
                let bytes = self.take(1)?[0] as usize; // LONG1
                self.int(bytes, true)?;
            }
            b'I' => self.decimal()?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?, // SHORT_BINUNICODE
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.push_tuple(items);
            }
            b']' => self.stack.push(Value::List), // EMPTY_LIST; no tensor depends on a list's content
            b'a' => drop(self.pop()?),            // APPEND
            b'e' => drop(self.pop_mark()?),       // APPENDS
            b'}' => self.push_dict(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?); // SETITEM
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?; // SETITEMS
                self.set_items(items)?;
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let top = self.top()?; // MEMOIZE
                self.memo.insert(self.memo.len() as u32, top);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?); // GLOBAL
                self.global(&module, &name)?;
            }
            b'i' => {
                // INST names what it calls. Nothing that a state dictionary needs is called this way.
                let (module, name) = (self.line()?, self.line()?);
                return Err(self.refusal(&module, &name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?); // STACK_GLOBAL
                let (Value::Text(name), Value::Text(module)) = (name, module) else {
                    return Err(self.fault("a global without a name".into()));
                };
                self.global(&module, &name)?;
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            // BUILD sets attributes, such as a state dictionary's `_metadata`; no tensor depends on them.
            b'b' => drop(self.pop()?),
            other => {
                return Err(
                    self.fault(format!("instruction 0x{other:02x} is not used by state dictionaries"))
                );
            }
        }
        Ok(false)
    }

    fn fault(&self, fault: String) -> Error {
        Error::malformed(self.path, format!("pickle, byte {}", self.at), fault)
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(bytes).filter(|&e| e <= self.pickle.len());
        let Some(end) = end else { return Err(self.fault("ends in the middle of an instruction".into())) };
        let taken = &self.pickle[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u32> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    /// Little endian, where signed in two's complement.
    fn int(&mut self, bytes: usize, signed: bool) -> Result<()> {
        if bytes > 8 {
            return Err(self.fault(format!("an integer of {bytes} bytes")));
        }
        let taken = self.take(bytes)?;
        let negative = signed && taken.last().is_some_and(|&b| b & 0x80 != 0);
        let start = if negative { -1i64 } else { 0 };
        let value = taken.iter().rev().fold(start, |n, &b| n << 8 | i64::from(b));
        self.stack.push(Value::Int(value));
        Ok(())
    }

    /// INT, the decimal form of early protocols; `00` and `01` are flags.
    fn decimal(&mut self) -> Result<()> {
        let line = self.line()?;
        self.stack.push(match line.as_str() {
            "00" | "01" => Value::Other,
            digits => Value::Int(digits.parse().map_err(|_| self.fault("an integer that is none".into()))?),
        });
        Ok(())
    }

    fn text(&mut self, length_bytes: usize) -> Result<()> {
        let bytes = self.unsigned(length_bytes)? as usize;
        let text = String::from_utf8(self.take(bytes)?.to_vec());
        let text = text.map_err(|_| self.fault("a text that is not UTF-8".into()))?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.pickle[self.at..];
        let end =
            rest.iter().position(|&b| b == b'\n').ok_or_else(|| self.fault("a name without end".into()))?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    /// The lowest height that may be popped: what lies below belongs to an open MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value> {
        if self.stack.len() <= self.floor() {
            return Err(self.fault("takes more values than there are".into()));
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| self.fault("a missing mark".into()))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Value> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.cloned().ok_or_else(|| self.fault("takes more values than there are".into()))
    }

    fn put(&mut self, bytes: usize) -> Result<()> {
        let slot = self.unsigned(bytes)?;
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get(&mut self, bytes: usize) -> Result<()> {
        let slot = self.unsigned(bytes)?;
        let value = self.memo.get(&slot).cloned();
        self.stack.push(value.ok_or_else(|| self.fault(format!("nothing was remembered under {slot}")))?);
        Ok(())
    }

    fn tuple(&mut self, length: usize) -> Result<()> {
        let mut items = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push_tuple(items);
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        self.heap.push(Cell::Tuple(items));
        self.stack.push(Value::Tuple(self.heap.len() - 1));
    }

    fn push_dict(&mut self) {
        self.heap.push(Cell::Dict(vec![]));
        self.stack.push(Value::Dict(self.heap.len() - 1));
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        let Value::Dict(id) = self.top()? else {
            return Err(self.fault("sets items of something that is no dictionary".into()));
        };
        if !items.len().is_multiple_of(2) {
            return Err(self.fault("a key without a value".into()));
        }
        let mut items = items.into_iter();
        if let Cell::Dict(pairs) = &mut self.heap[id] {
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        match known(module, name) {
            Some(k) => self.stack.push(Value::Known(k)),
            None if module == "torch" && name.ends_with("Storage") => {
                return Err(self.unreadable(format!("elements of torch.{name} are not read here")));
            }
            None if module == "torch" && LATE_TYPES.iter().any(|begins| name.starts_with(begins)) => {
                return Err(self.unreadable(format!("elements of torch.{name} are not read here")));
            }
            None => return Err(self.refusal(module, name)),
        }
        Ok(())
    }

    /// A tensor, but of no type that is read here.
    fn unreadable(&self, fault: String) -> Error {
        Error::Malformed {
            file: self.path.into(),
            field: format!("pickle, byte {}", self.at),
            fault,
            remedy: "convert the model to float32, bfloat16 or float16",
        }
    }

    fn refusal(&self, module: &str, name: &str) -> Error {
        Error::Pickle { file: self.path.into(), global: format!("{module}.{name}") }
    }

    /// A storage: `('storage', torch.FloatStorage, key, location, element count)`.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        match self.items(&id) {
            Some([Value::Text(kind), Value::Known(Known::Storage(dtype)), Value::Text(key), ..])
                if &**kind == "storage" =>
            {
                let storage = Value::Storage(*dtype, key.clone());
                self.stack.push(storage);
                Ok(())
            }
            _ => Err(self.fault("a persistent object that is no storage".into())),
        }
    }

    fn reduce(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Known(function) = function else {
            return Err(self.fault("calls something that is not a function".into()));
        };
        match function {
            Known::OrderedDict if self.items(&arguments).is_some_and(|a| a.is_empty()) => self.push_dict(),
            Known::RebuildTensor | Known::RebuildTypedTensor => {
                let view = self.view(&arguments, function == Known::RebuildTypedTensor);
                let view = view.ok_or_else(|| self.fault("a tensor with unexpected arguments".into()))?;
                self.heap.push(Cell::Tensor(view));
                self.stack.push(Value::Tensor(self.heap.len() - 1));
            }
            Known::RebuildParameter => match self.items(&arguments) {
                Some([Value::Tensor(id), ..]) => {
                    let id = *id;
                    self.stack.push(Value::Tensor(id));
                }
                _ => return Err(self.fault("a parameter without a tensor".into())),
            },
            other => return Err(self.fault(format!("calls {other:?} in an unexpected way"))),
        }
        Ok(())
    }

    fn items(&self, tuple: &Value) -> Option<&[Value]> {
        let Value::Tuple(id) = tuple else { return None };
        match &self.heap[*id] {
            Cell::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks, metadata)`, and `typed`
    /// `_rebuild_tensor_v3(storage, offset, shape, stride, requires_grad, hooks, dtype, metadata)`; metadata may be absent.
    fn view(&self, arguments: &Value, typed: bool) -> Option<View> {
        let [Value::Storage(dtype, storage), Value::Int(offset), shape, stride, rest @ ..] =
            self.items(arguments)?
        else {
            return None;
        };
        let (dtype, metadata) = match (typed, rest.get(2)) {
            (false, metadata) => (*dtype, metadata),
            (true, Some(Value::Known(Known::Type(named)))) => (*named, rest.get(3)),
            (true, _) => return None,
        };
        // Metadata say that the numbers are to be read otherwise than stored, such as negated.
        match metadata {
            None | Some(Value::None) => {}
            Some(Value::Dict(id)) if matches!(&self.heap[*id], Cell::Dict(pairs) if pairs.is_empty()) => {}
            Some(_) => return None,
        }
        let sizes = |value: &Value| {
            let one = |v: &Value| match v {
                Value::Int(n) => usize::try_from(*n).ok(),
                _ => None,
            };
            self.items(value)?.iter().map(one).collect::<Option<Vec<usize>>>()
        };
        let (shape, stride) = (sizes(shape)?, sizes(stride)?);
        let offset = usize::try_from(*offset).ok()?;
        (shape.len() == stride.len()).then(|| View { dtype, storage: storage.clone(), offset, shape, stride })
    }
}

#[cfg(test)]
#[path = "torch_pickle_tests.rs"]
mod tests;
