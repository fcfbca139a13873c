//! What is wrong with bytes that should be a message.

use crate::id::GroupId;
use crate::membership::MalformedMembership;
use crate::value::MalformedValue;

/// Why bytes are not a message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer or more bytes follow the header than it says, or the header itself is cut short.
    WrongLength {
        /// How many bytes there must be.
        expected_bytes: usize,
        /// How many there are.
        found_bytes: usize,
    },
    /// The bytes are not those that were sent.
    WrongChecksum,
    /// A field that is no list comes twice, or two fields that exclude each other.
    Repeated {
        /// The field's name in the schema, or the common name of fields that exclude each other.
        field: &'static str,
    },
    /// The bytes are not Protocol Buffers of this schema.
    Undecodable {
        /// What is wrong, in a sentence for a log.
        problem: String,
    },
    /// The body is missing, or of a kind that this version does not know.
    UnknownBody,
    /// A required field is missing, or of a kind that this version does not know.
    MissingField {
        /// The field's name in the schema.
        field: &'static str,
    },
    /// A value is not well-formed.
    MalformedValue,
    /// A value is of a kind that this version does not know.
    UnknownKind {
        /// The number of the kind.
        number: u32,
    },
    /// A membership is not well-formed.
    MalformedMembership,
    /// The message is for another group of replicas than the only one that this version knows.
    UnknownGroup {
        /// The group.
        group: GroupId,
    },
}

impl std::fmt::Display for WireError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::WrongLength { expected_bytes, found_bytes } => {
                write!(formatter, "not a message: {found_bytes} bytes where there must be {expected_bytes}")
            }
            WireError::WrongChecksum => formatter.write_str("not a message: its checksum is another"),
            WireError::Repeated { field } => write!(formatter, "not a message: it has its {field} twice"),
            WireError::Undecodable { problem } => write!(formatter, "not a message: {problem}"),
            WireError::UnknownBody => {
                formatter.write_str("a message of an unknown kind, perhaps of a newer version")
            }
            WireError::MissingField { field } => write!(formatter, "a message without its field {field}"),
            WireError::MalformedValue => write!(formatter, "not a message: {MalformedValue}"),
            WireError::UnknownKind { number } => {
                write!(formatter, "a value of the unknown kind {number}, perhaps of a newer version")
            }
            WireError::UnknownGroup { group } => {
                write!(formatter, "a message for group {group}, perhaps of a newer version")
            }
            WireError::MalformedMembership => write!(formatter, "not a message: {MalformedMembership}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<MalformedValue> for WireError {
    fn from(_: MalformedValue) -> WireError {
        WireError::MalformedValue
    }
}

impl From<MalformedMembership> for WireError {
    fn from(_: MalformedMembership) -> WireError {
        WireError::MalformedMembership
    }
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> WireError {
        WireError::Undecodable { problem: error.to_string() }
    }
}
