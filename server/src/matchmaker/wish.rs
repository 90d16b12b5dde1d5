//! Whom a user wants to meet: checked criteria, the pools that they name, and when they widen.

use std::{sync::Arc, time::Duration};

use voicematch_protocol::Criteria;

/// Words in `interests`, at the most.
pub const MAX_INTERESTS: usize = 10;
/// Bytes in one word of the criteria, at the most.
pub const MAX_WORD_BYTES: usize = 64;

/// The kinds of pool, from narrow to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// A shared interest, and the same language where one is named.
    Interest,
    /// The same language.
    Language,
    /// The same region.
    Region,
    /// Anyone.
    Anyone,
}

impl Width {
    /// From narrow to wide.
    pub const ALL: [Self; 4] = [Self::Interest, Self::Language, Self::Region, Self::Anyone];

    /// The metric labels, in the order of [`Self::ALL`].
    pub const LABELS: [&'static str; 4] = [
        Self::Interest.as_str(),
        Self::Language.as_str(),
        Self::Region.as_str(),
        Self::Anyone.as_str(),
    ];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interest => "interest",
            Self::Language => "language",
            Self::Region => "region",
            Self::Anyone => "anyone",
        }
    }

    /// The position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// After how long a wait each wider pool is joined; `None`: never. The narrowest pool that a user's
/// criteria name is joined at once, whatever stands here.
#[derive(Debug, Clone, Copy)]
pub struct Widening {
    /// Same language, whatever the interests.
    pub language: Option<Duration>,
    /// Same region, whatever the language.
    pub region: Option<Duration>,
    /// Anyone.
    pub anyone: Option<Duration>,
}

impl Widening {
    fn after(&self, width: Width) -> Option<Duration> {
        match width {
            Width::Interest => Some(Duration::ZERO),
            Width::Language => self.language,
            Width::Region => self.region,
            Width::Anyone => self.anyone,
        }
    }
}

/// A pool's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// People who share an interest and, if they name one, a language.
    Interest {
        /// The language, if the criteria name one.
        language: Option<Arc<str>>,
        /// The interest.
        interest: Arc<str>,
    },
    /// People who speak a language.
    Language(Arc<str>),
    /// People in a region.
    Region(Arc<str>),
    /// Everybody.
    Anyone,
}

/// Checked criteria: trimmed, lower case, no empty or doubled words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    language: Option<Arc<str>>,
    region: Option<Arc<str>>,
    interests: Box<[Arc<str>]>,
}

impl Wish {
    /// Checks criteria; the error says what is wrong with them.
    pub fn new(criteria: &Criteria<'_>) -> Result<Self, String> {
        if criteria.interests.len() > MAX_INTERESTS {
            return Err(format!(
                "criteria.interests has {} words; send at most {MAX_INTERESTS}",
                criteria.interests.len()
            ));
        }
        let mut interests: Vec<Arc<str>> = Vec::new();
        for interest in &criteria.interests {
            if let Some(word) = word("criteria.interests", interest)?
                && !interests.contains(&word)
            {
                interests.push(word);
            }
        }
        let optional = |name, text: Option<&str>| text.map_or(Ok(None), |text| word(name, text));
        Ok(Self {
            language: optional("criteria.language", criteria.language.as_deref())?,
            region: optional("criteria.region", criteria.region.as_deref())?,
            interests: interests.into(),
        })
    }

    /// Whether the criteria name a pool of this kind.
    fn names(&self, width: Width) -> bool {
        match width {
            Width::Interest => !self.interests.is_empty(),
            Width::Language => self.language.is_some(),
            Width::Region => self.region.is_some(),
            Width::Anyone => true,
        }
    }

    /// The kind of pool to begin with.
    pub fn narrowest(&self) -> Width {
        Width::ALL
            .into_iter()
            .find(|&width| self.names(width))
            .unwrap_or(Width::Anyone)
    }

    /// The next kind of pool after `width`, and after how long a wait it is joined.
    pub fn wider(&self, width: Width, widening: &Widening) -> Option<(Width, Duration)> {
        Width::ALL
            .into_iter()
            .filter(|&wider| wider > width && self.names(wider))
            .find_map(|wider| widening.after(wider).map(|after| (wider, after)))
    }

    /// The pools of one kind that the criteria name.
    pub fn keys(&self, width: Width) -> impl Iterator<Item = PoolKey> + '_ {
        let interests = if width == Width::Interest {
            &*self.interests
        } else {
            &[]
        };
        let one = match width {
            Width::Interest => None,
            Width::Language => self.language.clone().map(PoolKey::Language),
            Width::Region => self.region.clone().map(PoolKey::Region),
            Width::Anyone => Some(PoolKey::Anyone),
        };
        let interest = |interest: &Arc<str>| PoolKey::Interest {
            language: self.language.clone(),
            interest: interest.clone(),
        };
        interests.iter().map(interest).chain(one)
    }

    /// The interests that both name.
    pub fn shared_interests(&self, other: &Self) -> Vec<String> {
        let shared = self
            .interests
            .iter()
            .filter(|interest| other.interests.contains(interest));
        shared.map(|interest| interest.to_string()).collect()
    }
}

fn word(name: &str, text: &str) -> Result<Option<Arc<str>>, String> {
    let trimmed = text.trim();
    if trimmed.len() > MAX_WORD_BYTES {
        return Err(format!(
            "a word in {name} has {} bytes; use at most {MAX_WORD_BYTES}",
            trimmed.len()
        ));
    }
    Ok((!trimmed.is_empty()).then(|| trimmed.to_lowercase().into()))
}
