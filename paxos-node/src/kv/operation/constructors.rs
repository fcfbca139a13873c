//! How the operations are made that users of the library need most.

use bytes::Bytes;

use super::{Condition, Operation};

impl Operation {
    /// [`Operation::Get`].
    #[must_use]
    pub fn get(key: Bytes) -> Operation {
        Operation::Get { key }
    }

    /// [`Operation::Set`] without a condition, answered with [`Reply::Ok`](super::Reply::Ok).
    #[must_use]
    pub fn set(key: Bytes, value: Bytes) -> Operation {
        Operation::set_with(key, value, None, false)
    }

    /// [`Operation::Set`].
    #[must_use]
    pub fn set_with(key: Bytes, value: Bytes, condition: Option<Condition>, returns_old: bool) -> Operation {
        Operation::Set { key, value, condition, returns_old }
    }

    /// [`Operation::SetNx`].
    #[must_use]
    pub fn set_nx(key: Bytes, value: Bytes) -> Operation {
        Operation::SetNx { key, value }
    }

    /// [`Operation::GetDel`].
    #[must_use]
    pub fn get_del(key: Bytes) -> Operation {
        Operation::GetDel { key }
    }

    /// [`Operation::Delete`].
    #[must_use]
    pub fn delete(keys: Vec<Bytes>) -> Operation {
        Operation::Delete { keys }
    }

    /// [`Operation::Exists`].
    #[must_use]
    pub fn exists(keys: Vec<Bytes>) -> Operation {
        Operation::Exists { keys }
    }

    /// [`Operation::Add`].
    #[must_use]
    pub fn add(key: Bytes, by: i64) -> Operation {
        Operation::Add { key, by }
    }

    /// [`Operation::Append`].
    #[must_use]
    pub fn append(key: Bytes, value: Bytes, limit_bytes: u64) -> Operation {
        Operation::Append { key, value, limit_bytes }
    }

    /// [`Operation::StrLen`].
    #[must_use]
    pub fn str_len(key: Bytes) -> Operation {
        Operation::StrLen { key }
    }

    /// [`Operation::MGet`].
    #[must_use]
    pub fn m_get(keys: Vec<Bytes>) -> Operation {
        Operation::MGet { keys }
    }

    /// [`Operation::MSet`].
    #[must_use]
    pub fn m_set(pairs: Vec<(Bytes, Bytes)>) -> Operation {
        Operation::MSet { pairs }
    }

    /// [`Operation::Scan`].
    #[must_use]
    pub fn scan(cursor: u64, pattern: Option<Bytes>, count: u64) -> Operation {
        Operation::Scan { cursor, pattern, count }
    }

    /// [`Operation::Type`].
    #[must_use]
    pub fn type_of(key: Bytes) -> Operation {
        Operation::Type { key }
    }

    /// [`Operation::DeleteIf`].
    #[must_use]
    pub fn delete_if(key: Bytes, condition: Condition) -> Operation {
        Operation::DeleteIf { key, condition }
    }

    /// [`Operation::Publish`].
    #[must_use]
    pub fn publish(channel: Bytes, message: Bytes) -> Operation {
        Operation::Publish { channel, message }
    }
}
