//! Refuses messages in which a field comes twice.
//!
//! In Protocol Buffers a field that comes again replaces the one before it, and a message that comes again is
//! merged into it: bytes that follow a message by mistake become a part of it. No message of ours is sent in
//! pieces, so a field that comes twice is a mistake, and is refused. Fields that this version does not know
//! may come any number of times; so may lists.
//!
//! This reads keys and lengths alone, whatever is decoded.

use super::error::WireError;

/// The fields of a message that this version knows.
pub(crate) struct Shape {
    /// The fields from tag 1 on.
    fields: &'static [Field],
    /// Unknown tags up to this one are bodies of other versions.
    last_body_tag: usize,
}

pub(crate) struct Field {
    name: &'static str,
    how_often: HowOften,
    /// The shape of the message in it, if it holds one.
    message: Option<&'static Shape>,
}

#[derive(Clone, Copy)]
enum HowOften {
    Once,
    /// Once, and then no other field of this kind.
    OneOf,
    /// It is a list.
    Any,
}

pub(crate) const fn shape(fields: &'static [Field]) -> Shape {
    Shape { fields, last_body_tag: 0 }
}

/// A message of which unknown fields up to this tag exclude each other and the known bodies.
pub(super) const fn shape_with_bodies(fields: &'static [Field], last_body_tag: usize) -> Shape {
    Shape { fields, last_body_tag }
}

pub(crate) const fn one(name: &'static str) -> Field {
    Field { name, how_often: HowOften::Once, message: None }
}

pub(crate) const fn one_message(name: &'static str, message: &'static Shape) -> Field {
    Field { name, how_often: HowOften::Once, message: Some(message) }
}

pub(super) const fn one_of(name: &'static str, message: &'static Shape) -> Field {
    Field { name, how_often: HowOften::OneOf, message: Some(message) }
}

pub(crate) const fn list(name: &'static str, message: Option<&'static Shape>) -> Field {
    Field { name, how_often: HowOften::Any, message }
}

pub(crate) static BALLOT: Shape = shape(&[one("round"), one("node")]);
pub(crate) static ENTRY: Shape = shape(&[
    one("slot"),
    one("value"),
    one_of("accepted or chosen", &BALLOT),
    one_of("accepted or chosen", &EMPTY),
    one("kind"),
    one("time"),
]);
pub(crate) static SNAPSHOT: Shape =
    shape(&[one("slot"), one("size_bytes"), one("checksum"), one("membership")]);
static EMPTY: Shape = shape(&[]);

static UNKNOWN_BODY: Field = Field { name: "body", how_often: HowOften::OneOf, message: None };
/// The wire types of Protocol Buffers.
const VARINT: u32 = 0;
const EIGHT_BYTES: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FOUR_BYTES: u32 = 5;

/// What is wrong with a message. Small, as it is returned for each field.
enum Fault {
    Repeated { field: &'static str },
    NoFields,
}

/// Checks that no known field comes twice, in a message or in the messages within it.
///
/// # Errors
///
/// [`WireError::Repeated`] if one does, [`WireError::Undecodable`] if the bytes are no fields.
pub(super) fn check(message: &[u8], shape: &Shape) -> Result<(), WireError> {
    scan(message, shape).map_err(|fault| match fault {
        Fault::Repeated { field } => WireError::Repeated { field },
        Fault::NoFields => WireError::Undecodable { problem: String::from("it does not consist of fields") },
    })
}

fn scan(message: &[u8], shape: &Shape) -> Result<(), Fault> {
    let mut rest = message;
    // A bit for each tag; all that exclude each other share that of the first one.
    let mut seen: u32 = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest).and_then(|key| u32::try_from(key).ok()).ok_or(Fault::NoFields)?;
        let (tag, wire_type) = (key >> 3, key & 7);
        let field = shape.field(tag);
        if let Some(field) = field {
            let bit = match field.how_often {
                HowOften::Once => 1 << tag,
                HowOften::OneOf => 1,
                HowOften::Any => 0,
            };
            if seen & bit != 0 {
                return Err(Fault::Repeated { field: field.name });
            }
            seen |= bit;
        }
        let length = match wire_type {
            VARINT => {
                varint(&mut rest).ok_or(Fault::NoFields)?;
                continue;
            }
            EIGHT_BYTES => 8,
            FOUR_BYTES => 4,
            LENGTH_DELIMITED => varint(&mut rest).ok_or(Fault::NoFields)?,
            _ => return Err(Fault::NoFields), // Of no type that is used.
        };
        let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let (content, after) = split.ok_or(Fault::NoFields)?;
        rest = after;
        if wire_type == LENGTH_DELIMITED
            && let Some(shape) = field.and_then(|field| field.message)
        {
            scan(content, shape)?;
        }
    }
    Ok(())
}

impl Shape {
    fn field(&self, tag: u32) -> Option<&Field> {
        let place = (tag as usize).checked_sub(1)?;
        self.fields.get(place).or_else(|| (place < self.last_body_tag).then_some(&UNKNOWN_BODY))
    }
}

/// Reads a number from the front; most are short.
#[inline]
pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    if first < 0x80 {
        *rest = after;
        return Some(u64::from(first));
    }
    long_varint(rest)
}

fn long_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (index, byte) in rest.iter().enumerate() {
        if index == 9 && *byte > 1 {
            break; // It has more than 64 bits.
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *rest = &rest[index + 1..];
            return Some(number);
        }
    }
    None
}
