//! The `data` of an input, flat or nested, becomes a tensor: each element goes from the text straight into a vector of its own
//! width, which the tensor then takes over. Called by `input`, which knows the name for the error.

use bytes::Bytes;

use super::{number::Number as Token, scan::Scanner, value::Fault};
use crate::{
    protocol::raw::check_strings,
    types::{DType, Error, ErrorCode, Shape, Tensor, element_count},
};

/// Bytes that JSON may grow to as tensors, when the body itself is shorter: digits can be shorter than the number they make.
const MAX_EXPANSION: usize = 64 << 20;

/// Reads the `data` of inputs, keeping account of how large they become.
pub(super) struct Reader<'b> {
    body: &'b Bytes,
    budget: usize,
}

impl<'b> Reader<'b> {
    /// For one body.
    pub(super) fn new(body: &'b Bytes) -> Self {
        Self { body, budget: body.len().max(MAX_EXPANSION) }
    }

    /// Reads an array of `data`.
    pub(super) fn tensor(&mut self, scanner: &mut Scanner<'_>, dtype: DType, shape: &Shape) -> Result<Tensor, Fault> {
        match dtype {
            DType::Bool => self.plain::<bool>(scanner, dtype, shape),
            DType::Uint8 => self.plain::<u8>(scanner, dtype, shape),
            DType::Uint16 => self.plain::<u16>(scanner, dtype, shape),
            DType::Uint32 => self.plain::<u32>(scanner, dtype, shape),
            DType::Uint64 => self.plain::<u64>(scanner, dtype, shape),
            DType::Int8 => self.plain::<i8>(scanner, dtype, shape),
            DType::Int16 => self.plain::<i16>(scanner, dtype, shape),
            DType::Int32 => self.plain::<i32>(scanner, dtype, shape),
            DType::Int64 => self.plain::<i64>(scanner, dtype, shape),
            DType::Fp32 => self.plain::<f32>(scanner, dtype, shape),
            DType::Fp64 => self.plain::<f64>(scanner, dtype, shape),
            DType::Bytes => {
                let body = self.body;
                let read = |scanner: &mut Scanner<'_>| string(scanner, body);
                let items = self.elements(scanner, dtype, shape, (read, |_| None))?;
                Tensor::strings(shape.clone(), items.into()).map_err(Fault::Value)
            }
            DType::Fp16 | DType::Bf16 => {
                Err(Fault::value(format!("{dtype} data via JSON is not supported: use the binary data format")))
            }
        }
    }

    fn plain<T: Number>(&mut self, scanner: &mut Scanner<'_>, dtype: DType, shape: &Shape) -> Result<Tensor, Fault> {
        let values = self.elements(scanner, dtype, shape, (T::read, T::of))?;
        Tensor::from_vec(dtype, shape.clone(), values).map_err(Fault::Value)
    }

    fn elements<T>(
        &mut self,
        scanner: &mut Scanner<'_>,
        dtype: DType,
        shape: &Shape,
        (read, of): (impl Fn(&mut Scanner<'_>) -> Result<T, Wrong>, impl Fn(Token<'_>) -> Option<T>),
    ) -> Result<Vec<T>, Fault> {
        let expected = element_count(shape).map_err(Fault::Value)?;
        // An element takes a digit and a comma, so the text bounds what is worth reserving, whatever the shape claims.
        let possible = expected.min(scanner.left() / 2 + 1);
        self.reserve(dtype, possible.saturating_mul(size_of::<T>()))?;
        if dtype == DType::Bytes {
            check_strings(possible).map_err(Fault::Value)?;
        }
        if scanner.peek() != Some(b'[') {
            return Err(Fault::value(format!("data: expected an array, got {}", scanner.found())));
        }
        let mut fill = Fill { values: Vec::with_capacity(possible), expected, count: 0, dtype, read, of };
        let nested = shape.len() > 1 && scanner.clone().opens_array_in_array();
        if nested {
            fill.nested(scanner, shape, 0)?
        } else {
            fill.flat(scanner)?
        }
        if fill.count != expected {
            return Err(Fault::value(format!("data: expected {expected} elements, got {}", fill.count)));
        }
        Ok(fill.values)
    }

    fn reserve(&mut self, dtype: DType, bytes: usize) -> Result<(), Fault> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => {
                let most = self.body.len().max(MAX_EXPANSION);
                let text = format!("{dtype} data: expected at most {most} bytes in memory for all inputs");
                Err(Fault::Value(Error::new(ErrorCode::TooLarge, text)))
            }
        }
    }
}

/// Why an element is not one.
enum Wrong {
    NotA(&'static str),
    OutOfRange,
}

/// Elements on their way into a flat vector.
struct Fill<T, R, O> {
    values: Vec<T>,
    expected: usize,
    count: usize,
    dtype: DType,
    /// Reads one element, whatever it may be written as, or says why it is none.
    read: R,
    /// Makes a number that has been read an element.
    of: O,
}

impl<T, R, O> Fill<T, R, O>
where
    R: Fn(&mut Scanner<'_>) -> Result<T, Wrong>,
    O: Fn(Token<'_>) -> Option<T>,
{
    /// All elements in one array. Most are passed by [`Fill::run`]; what it stops at, and the last, is read the ordinary way.
    fn flat(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        scanner.array(|scanner| {
            self.run(scanner);
            self.element(scanner)
        })
    }

    /// As many plain elements as there are, without a look at anything else in between.
    #[inline]
    fn run(&mut self, scanner: &mut Scanner<'_>) {
        let room = self.expected.saturating_sub(self.count);
        let mut taken = 0;
        scanner.numbers(|number| {
            let Some(value) = (self.of)(number).filter(|_| taken < room) else { return false };
            self.values.push(value);
            taken += 1;
            true
        });
        self.count += taken;
    }

    /// One array per size of dimension `level`, and so on inwards.
    fn nested(&mut self, scanner: &mut Scanner<'_>, shape: &[usize], level: usize) -> Result<(), Fault> {
        if level + 1 == shape.len() {
            let before = self.count;
            self.flat(scanner)?;
            return check_size(shape, level, self.count - before);
        }
        let mut entries = 0;
        scanner.array(|scanner| {
            entries += 1;
            if scanner.peek() == Some(b'[') {
                self.nested(scanner, shape, level + 1)
            } else {
                let found = scanner.found();
                Err(Fault::value(format!("data: expected an array in dimension {level}, got {found}")))
            }
        })?;
        check_size(shape, level, entries)
    }

    #[inline]
    fn element(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let before = scanner.clone();
        match (self.read)(scanner) {
            Ok(value) => {
                // Beyond the shape's count the rest is only counted, for the error.
                if self.count < self.expected {
                    self.values.push(value);
                }
                self.count += 1;
                Ok(())
            }
            Err(wrong) => Err(self.wrong(before, &wrong)),
        }
    }

    #[cold]
    fn wrong(&self, mut at: Scanner<'_>, wrong: &Wrong) -> Fault {
        let (element, dtype) = (self.count, self.dtype);
        let found = at.found();
        // What is no JSON at all is the body's fault, as is a body that ends here.
        if let Err(error) = at.skip_shallow() {
            return Fault::Body(error);
        }
        Fault::value(match wrong {
            Wrong::NotA(what) => format!("element {element}: expected {what}, got {found}"),
            Wrong::OutOfRange => format!("element {element}: out of range for {dtype}, got {found}"),
        })
    }
}

fn check_size(shape: &[usize], level: usize, got: usize) -> Result<(), Fault> {
    let want = shape[level];
    if got == want {
        Ok(())
    } else {
        Err(Fault::value(format!("data: expected {want} entries in dimension {level}, got {got}")))
    }
}

fn string(scanner: &mut Scanner<'_>, body: &Bytes) -> Result<Bytes, Wrong> {
    match scanner.string() {
        // Without escapes the element is a slice of the body.
        Ok(std::borrow::Cow::Borrowed(text)) => Ok(body.slice_ref(text.as_bytes())),
        Ok(std::borrow::Cow::Owned(text)) => Ok(Bytes::from(text)),
        Err(_) => Err(Wrong::NotA("a string")),
    }
}

/// An element type that JSON has numbers (or booleans) for.
trait Number: bytemuck::NoUninit + Send + Sync {
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Wrong>;

    /// A number that has been read; `None` when it is not one of these.
    fn of(number: Token<'_>) -> Option<Self>;
}

impl Number for bool {
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Wrong> {
        if let Some(value) = scanner.boolean() {
            return Ok(value);
        }
        scanner.number().and_then(Self::of).ok_or(Wrong::NotA("true or false"))
    }

    fn of(number: Token<'_>) -> Option<Self> {
        match number.to_integer::<u8>() {
            Some(value @ 0..=1) => Some(value == 1),
            _ => None,
        }
    }
}

impl Number for f32 {
    #[inline]
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Wrong> {
        Self::of(scanner.number().ok_or(Wrong::NotA("a number"))?).ok_or(Wrong::OutOfRange)
    }

    #[inline]
    fn of(number: Token<'_>) -> Option<Self> {
        Some(number.to_f32()).filter(|value| value.is_finite())
    }
}

impl Number for f64 {
    #[inline]
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Wrong> {
        Self::of(scanner.number().ok_or(Wrong::NotA("a number"))?).ok_or(Wrong::OutOfRange)
    }

    #[inline]
    fn of(number: Token<'_>) -> Option<Self> {
        Some(number.to_f64()).filter(|value| value.is_finite())
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Number for $integer {
            #[inline]
            fn read(scanner: &mut Scanner<'_>) -> Result<Self, Wrong> {
                let number = scanner.number().filter(|number| number.integer).ok_or(Wrong::NotA("an integer"))?;
                Self::of(number).ok_or(Wrong::OutOfRange)
            }

            #[inline]
            fn of(number: Token<'_>) -> Option<Self> {
                number.to_integer()
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);
