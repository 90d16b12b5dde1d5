//! A user's checked criteria, the pools that they name, and when they widen.

use std::{fmt, sync::Arc, time::Duration};

use voicematch_protocol::Criteria;

/// The most words in `interests`.
pub const MAX_INTERESTS: usize = 10;
/// The most bytes in one word of the criteria.
pub const MAX_WORD_BYTES: usize = 64;

/// The kinds of pool, from narrow to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolKind {
    /// A shared interest, and the same language if the criteria name one.
    Interest,
    Language,
    Region,
    Anyone,
}

impl PoolKind {
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

/// The wait after which a ticket joins each wider pool; `None`: never. The narrowest pool that the criteria
/// name is always joined at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widening {
    /// The same language, with any interests.
    pub language: Option<Duration>,
    /// The same region, with any language.
    pub region: Option<Duration>,
    pub anyone: Option<Duration>,
}

impl Widening {
    fn after(&self, kind: PoolKind) -> Option<Duration> {
        match kind {
            PoolKind::Interest => Some(Duration::ZERO),
            PoolKind::Language => self.language,
            PoolKind::Region => self.region,
            PoolKind::Anyone => self.anyone,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// Users who share an interest and, if they name one, a language.
    Interest {
        /// The language, if the criteria name one.
        language: Option<Arc<str>>,
        interest: Arc<str>,
    },
    Language(Arc<str>),
    Region(Arc<str>),
    Anyone,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interest {
                language: Some(language),
                interest,
            } => write!(f, "interest {interest}, language {language}"),
            Self::Interest { interest, .. } => write!(f, "interest {interest}"),
            Self::Language(language) => write!(f, "language {language}"),
            Self::Region(region) => write!(f, "region {region}"),
            Self::Anyone => f.write_str("anyone"),
        }
    }
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

    /// The criteria that it was made of, as they were checked.
    pub(crate) fn criteria(&self) -> Criteria<'_> {
        let word = |word: &Option<Arc<str>>| word.as_deref().map(|word| word.to_owned().into());
        Criteria {
            language: word(&self.language),
            region: word(&self.region),
            interests: self
                .interests
                .iter()
                .map(|word| word.to_string().into())
                .collect(),
        }
    }

    /// Whether the criteria name a pool of this kind.
    fn names(&self, kind: PoolKind) -> bool {
        match kind {
            PoolKind::Interest => !self.interests.is_empty(),
            PoolKind::Language => self.language.is_some(),
            PoolKind::Region => self.region.is_some(),
            PoolKind::Anyone => true,
        }
    }

    /// The kind of pool to begin with.
    pub fn narrowest(&self) -> PoolKind {
        PoolKind::ALL
            .into_iter()
            .find(|&kind| self.names(kind))
            .unwrap_or(PoolKind::Anyone)
    }

    /// The next kind of pool after `kind`, and the wait after which it is joined.
    pub fn wider(&self, kind: PoolKind, widening: &Widening) -> Option<(PoolKind, Duration)> {
        PoolKind::ALL
            .into_iter()
            .filter(|&wider| wider > kind && self.names(wider))
            .find_map(|wider| widening.after(wider).map(|after| (wider, after)))
    }

    /// The pools of one kind that the criteria name.
    pub fn keys(&self, kind: PoolKind) -> impl Iterator<Item = PoolKey> + '_ {
        let interests = if kind == PoolKind::Interest {
            &*self.interests
        } else {
            &[]
        };
        let one = match kind {
            PoolKind::Interest => None,
            PoolKind::Language => self.language.clone().map(PoolKey::Language),
            PoolKind::Region => self.region.clone().map(PoolKey::Region),
            PoolKind::Anyone => Some(PoolKey::Anyone),
        };
        let interest = |interest: &Arc<str>| PoolKey::Interest {
            language: self.language.clone(),
            interest: interest.clone(),
        };
        interests.iter().map(interest).chain(one)
    }

    pub fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }

    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    pub fn interests(&self) -> impl Iterator<Item = &str> {
        self.interests.iter().map(|interest| &**interest)
    }

    /// Those of `words` that are interests.
    pub fn shared_words(&self, words: &[String]) -> Vec<String> {
        let named = |word: &&String| self.interests.iter().any(|own| **own == ***word);
        words.iter().filter(named).cloned().collect()
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
