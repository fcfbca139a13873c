//! Operations of limiters, which count what happens within a time, and how the log holds them.

use bytes::{BufMut, Bytes, BytesMut};

use super::Operation;
use super::codec::{UnreadableCommand, put, take, take_i64, take_u8};

/// The tags of these operations.
const COUNT: u8 = 80;
const COUNTED: u8 = 81;
const SLIDE_WINDOW: u8 = 82;

/// How a number is counted whose window begins with the first that is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CountForm {
    /// The window begins if the sum is what was added. The answer is the sum.
    Sum,
    /// The window begins if there is none. The answer is the sum, and how many milliseconds are left.
    SumAndLeft,
    /// A number without a window begins anew. The answer is as before.
    AnewAndLeft,
}

/// What is asked of a sliding window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowRequest {
    /// How much is allowed within the window.
    pub limit: i64,
    /// How much more is to be counted.
    pub amount: i64,
}

/// Writes an operation, if it is one of these.
pub(super) fn encode(operation: &Operation, bytes: &mut BytesMut) {
    match operation {
        Operation::Count { key, by, window_ms, form } => {
            put(bytes, COUNT, &[key]);
            bytes.put_i64_le(*by);
            bytes.put_i64_le(*window_ms);
            bytes.put_u8(match form {
                CountForm::Sum => 0,
                CountForm::SumAndLeft => 1,
                CountForm::AnewAndLeft => 2,
            });
        }
        Operation::Counted { key } => put(bytes, COUNTED, &[key]),
        Operation::SlideWindow { previous, current, window_ms, request } => {
            put(bytes, SLIDE_WINDOW, &[previous, current]);
            bytes.put_i64_le(*window_ms);
            bytes.put_u8(u8::from(request.is_some()));
            if let Some(WindowRequest { limit, amount }) = request {
                bytes.put_i64_le(*limit);
                bytes.put_i64_le(*amount);
            }
        }
        other => unreachable!("{other:?} is not of a limiter"),
    }
}

/// Reads the operation behind this tag.
pub(super) fn decode(tag: u8, bytes: &mut Bytes) -> Result<Operation, UnreadableCommand> {
    Ok(match tag {
        COUNT => Operation::Count {
            key: take(bytes)?,
            by: take_i64(bytes)?,
            window_ms: take_i64(bytes)?,
            form: match take_u8(bytes)? {
                0 => CountForm::Sum,
                1 => CountForm::SumAndLeft,
                2 => CountForm::AnewAndLeft,
                _ => return Err(UnreadableCommand::Unknown),
            },
        },
        COUNTED => Operation::Counted { key: take(bytes)? },
        SLIDE_WINDOW => Operation::SlideWindow {
            previous: take(bytes)?,
            current: take(bytes)?,
            window_ms: take_i64(bytes)?,
            request: match take_u8(bytes)? {
                0 => None,
                1 => Some(WindowRequest { limit: take_i64(bytes)?, amount: take_i64(bytes)? }),
                _ => return Err(UnreadableCommand::Unknown),
            },
        },
        _ => return Err(UnreadableCommand::Unknown),
    })
}
