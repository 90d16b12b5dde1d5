//! Ids: 64 random bits, written as 16 lower-case hexadecimal digits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Digits in a written id.
pub const ID_LEN: usize = 16;

/// An id that was not 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 16 hexadecimal digits")
    }
}

impl std::error::Error for BadId {}

/// Eight digits at once, as each relayed message has an id: the nibbles are spread over the bytes of a word.
#[inline]
fn hex(bytes: [u8; 4]) -> [u8; 8] {
    let n = u64::from(u32::from_be_bytes(bytes));
    let halves = n << 16 & 0x0000_ffff_0000_0000 | n & 0xffff;
    let bytes = (halves << 8 | halves) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes << 4 | bytes) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let digits = nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The 16 digits, without allocating.
            #[inline]
            pub fn digits(self) -> [u8; ID_LEN] {
                let [a, b, c, d, e, f, g, h] = self.0.to_be_bytes();
                let mut digits = [0; ID_LEN];
                digits[..8].copy_from_slice(&hex([a, b, c, d]));
                digits[8..].copy_from_slice(&hex([e, f, g, h]));
                digits
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(s: &str) -> Result<Self, BadId> {
                let hex = s.len() == ID_LEN && s.bytes().all(|b| b.is_ascii_hexdigit());
                if !hex {
                    return Err(BadId);
                }
                u64::from_str_radix(s, 16).map($name).map_err(|_| BadId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let digits = self.digits();
                s.serialize_str(std::str::from_utf8(&digits).map_err(ser::Error::custom)?)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Digits;
                impl de::Visitor<'_> for Digits {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("16 hexadecimal digits")
                    }

                    fn visit_str<E: de::Error>(self, s: &str) -> Result<$name, E> {
                        s.parse().map_err(E::custom)
                    }
                }
                d.deserialize_str(Digits)
            }
        }
    };
}

id! {
    /// One user's session, and so the id by which a partner knows them (`peer_id`, `from`, `to`).
    SessionId
}
id! {
    /// One room.
    RoomId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let every_byte = (0..=255).map(|byte| byte << 24 | byte << 56 | (255 - byte) << 8);
        for n in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX]
            .into_iter()
            .chain(every_byte)
        {
            let id = SessionId(n);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.digits().as_slice(), id.to_string().as_bytes());
        }
    }

    #[test]
    fn only_sixteen_digits_are_an_id() {
        for bad in [
            "",
            "abc",
            "0123456789abcdeg",
            "+123456789abcdef",
            "0123456789abcdef0",
        ] {
            assert_eq!(bad.parse::<RoomId>(), Err(BadId), "{bad}");
        }
    }
}
