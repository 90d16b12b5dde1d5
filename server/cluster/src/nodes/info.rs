//! What a node says of itself with each beat.

use std::fmt;

/// By which a node of this program is known; anything else has another program's prefix.
const MAGIC: &str = "voicematch";

/// What a node says of itself. As text: `voicematch BUS VERSION KEY run|drain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Version of the bus and of the layout in the engine.
    pub bus: u8,
    /// Version of the program.
    pub version: String,
    /// Which room key it has.
    pub key: [u8; 4],
    /// It takes nobody any more.
    pub draining: bool,
}

impl Info {
    /// That of a node of this build.
    #[must_use]
    pub fn new(key: [u8; 4]) -> Self {
        Self {
            bus: crate::frames::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key,
            draining: false,
        }
    }

    /// Whether it speaks this version of the bus: with others nothing can be done together.
    #[must_use]
    pub fn is_of_this_bus(&self) -> bool {
        self.bus == crate::frames::VERSION
    }

    /// Out of `a7 voicematch ...`.
    pub(crate) fn of_value(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?;
        let mut words = text.strip_prefix('a')?.split(' ');
        let number = words.next()?;
        if number.parse::<u64>().is_err() || words.next()? != MAGIC {
            return None;
        }
        // A later version may say more.
        Some(Self {
            bus: words.next()?.parse().ok()?,
            version: words.next()?.to_owned(),
            key: u32::from_str_radix(words.next()?, 16).ok()?.to_be_bytes(),
            draining: words.next()? == "drain",
        })
    }
}

impl fmt::Display for Info {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = if self.draining { "drain" } else { "run" };
        // A space in a version would be the end of it.
        let version = self.version.replace(' ', "-");
        write!(
            out,
            "{MAGIC} {} {version} {:08x} {doing}",
            self.bus,
            u32::from_be_bytes(self.key)
        )
    }
}
